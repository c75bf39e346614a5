import { readdirSync, readFileSync } from 'node:fs'

const FOLDER = '/proc/sys/fs/binfmt_misc'

/** A registered format of programs that this machine runs besides its own, by qemu for example (kernel, admin-guide/binfmt-misc.rst). */
export interface BinaryFormat {
  /** Bytes at `offset` of a file, where `mask` has ones. */
  readonly magic: Buffer
  readonly mask: Buffer
  readonly offset: number
}

/** Lists the formats that are registered by the first bytes of a file; empty if binfmt_misc is not mounted. */
export function listBinaryFormats(folder = FOLDER): BinaryFormat[] {
  try {
    return readdirSync(folder)
      .filter((name) => name !== 'register' && name !== 'status')
      .flatMap((name) => parseBinaryFormat(readFileSync(`${folder}/${name}`, 'latin1')) ?? [])
  } catch {
    return []
  }
}

function parseBinaryFormat(text: string): BinaryFormat | undefined {
  const field = (name: string) => new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]
  const magic = field('magic')
  if (!text.startsWith('enabled') || magic === undefined) return undefined
  const bytes = Buffer.from(magic, 'hex')
  const mask = field('mask')
  return {
    magic: bytes,
    mask: mask === undefined ? Buffer.alloc(bytes.length, 0xff) : Buffer.from(mask, 'hex'),
    offset: Number(field('offset') ?? 0),
  }
}

/** Returns whether a file with this beginning has a format. */
export function isOfFormat(head: Buffer, { magic, mask, offset }: BinaryFormat): boolean {
  return magic.every((byte, index) => (((head[offset + index] ?? 0) ^ byte) & (mask[index] ?? 0xff)) === 0)
}
