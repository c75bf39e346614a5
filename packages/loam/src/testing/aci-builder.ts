import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { type BuildEntry, buildTar } from './image-builder.ts'

export interface BuildAciOptions {
  /** Fields of the manifest, over a valid one. */
  readonly manifest: Readonly<Record<string, unknown>>
  /** Files below the root, by names without `rootfs/`. */
  readonly entries: readonly BuildEntry[]
  /** Entries beside manifest and rootfs, for invalid archives. */
  readonly extra?: readonly BuildEntry[]
}

/** Builds an ACI: its compressed bytes and its id. */
export function buildAci({ manifest, entries, extra = [] }: BuildAciOptions): {
  bytes: Buffer
  tar: Buffer
  id: string
} {
  const inRootfs = (name: string | Buffer) => Buffer.concat([Buffer.from('rootfs/'), Buffer.from(name)])
  const tar = buildTar([
    { name: 'manifest', data: JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.8.11', ...manifest }) },
    { name: 'rootfs/' },
    ...entries.map((entry) => ({
      ...entry,
      name: inRootfs(entry.name),
      ...(entry.type === 'hardlink' ? { linkName: inRootfs(entry.linkName ?? '') } : {}),
    })),
    ...extra,
  ])
  const id = `sha512-${createHash('sha512').update(tar).digest('hex')}`
  return { bytes: gzipSync(tar, { level: 1 }), tar, id }
}

/** Labels in the form of a manifest. */
export function appcLabels(labels: Readonly<Record<string, string>>): { name: string; value: string }[] {
  return Object.entries(labels).map(([name, value]) => ({ name, value }))
}
