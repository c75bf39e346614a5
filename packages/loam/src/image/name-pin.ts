/**
 * Returns what a name in the store says that its image is: the digest of a reference or of an entry of a layout, or the id of an Appc
 * image. Undefined for a name that may refer to something else tomorrow.
 */
export function pinOf(name: string): string | undefined {
  // Wherever it is: older stores have names with a label that is called so.
  if (name.startsWith('appc://')) return /,id=([^,]*)/.exec(name)?.[1]
  // Only a path follows these.
  if (/^(?:docker-archive|aci):/.test(name)) return undefined
  return /@((?:sha256|sha512):[0-9a-f]+)$/.exec(name)?.[1]
}
