declare const brand: unique symbol

/**
 * A name as the store keeps it: a normalised reference, an Appc name, or the transport and path of a local source. A user's name
 * becomes one by parsing and formatting it.
 */
export type StoredReference = string & {
  /** Set only where a name is formatted. */
  readonly [brand]: 'StoredReference'
}

/** Marks a text that was formatted from a parsed name, or that was read from the database. */
export function storedReference(text: string): StoredReference {
  return text as StoredReference
}
