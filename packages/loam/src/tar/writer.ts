import { LoamError } from '../errors/index.ts'
import type { TarEntry, TarEntryType } from './entry.ts'
import { formatPaxRecord } from './pax.ts'

const BLOCK = 512
const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}

/** The fields that the writer needs of an entry; the others have the value of an absent field. */
export type TarEntryInput = Pick<TarEntry, 'type' | 'name'> & Partial<TarEntry>

/**
 * Formats the header blocks of one entry, with a pax header in front where ustar cannot express it exactly: long or
 * large values, fractions of a second, xattrs. The same entry always gives the same bytes. The caller writes
 * sizeBytes bytes of data after it, then `tarPadding(sizeBytes)`. Sparse files are written whole.
 */
export function formatTarHeader(input: TarEntryInput): Buffer {
  const name = toBytes(input.name)
  const linkName = toBytes(input.linkName ?? '')
  const hasData = input.type === 'file'
  const sizeBytes = hasData ? (input.sizeBytes ?? 0) : 0
  const records: Buffer[] = []
  const pax = (key: string, value: Uint8Array | string) => records.push(formatPaxRecord(key, value))
  const number = (key: string, value: number, width: number) => {
    if (value >= 0 && value < 8 ** (width - 1)) return value
    pax(key, String(value))
    return 0
  }

  if (name.length > 100) pax('path', name)
  if (linkName.length > 100) pax('linkpath', linkName)
  const block = Buffer.alloc(BLOCK)
  name.copy(block, 0, 0, 100)
  octal(block, 100, 8, input.mode ?? 0o644)
  octal(block, 108, 8, number('uid', input.uid ?? 0, 8))
  octal(block, 116, 8, number('gid', input.gid ?? 0, 8))
  octal(block, 124, 12, number('size', sizeBytes, 12))
  octal(block, 136, 12, paxTime(input, pax))
  block.write(TYPE_FLAGS[input.type], 156, 'latin1')
  linkName.copy(block, 157, 0, 100)
  block.write('ustar\x0000', 257, 'latin1')
  octal(block, 329, 8, input.deviceMajor ?? 0)
  octal(block, 337, 8, input.deviceMinor ?? 0)
  for (const { name: key, value } of input.xattrs ?? []) pax(`SCHILY.xattr.${key.toString('latin1')}`, value)
  seal(block)
  return records.length === 0 ? block : Buffer.concat([paxHeader(Buffer.concat(records)), block])
}

function toBytes(text: Buffer | string): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text
}

function paxTime(
  { mtimeSeconds = 0, mtimeNanoseconds = 0 }: TarEntryInput,
  pax: (key: string, value: string) => void,
): number {
  const isPlain = mtimeSeconds >= 0 && mtimeSeconds < 8 ** 11 && mtimeNanoseconds === 0
  if (isPlain) return mtimeSeconds
  pax('mtime', formatPaxTime(mtimeSeconds, mtimeNanoseconds))
  return mtimeSeconds >= 0 && mtimeSeconds < 8 ** 11 ? mtimeSeconds : 0
}

function formatPaxTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds)
  const isNegative = seconds < 0
  const whole = isNegative ? -(seconds + 1) : seconds
  const fraction = isNegative ? 1_000_000_000 - nanoseconds : nanoseconds
  const digits = String(fraction).padStart(9, '0').replace(/0+$/, '')
  return `${isNegative ? '-' : ''}${whole}.${digits}`
}

function paxHeader(body: Buffer): Buffer {
  const block = Buffer.alloc(BLOCK)
  block.write('PaxHeaders/entry', 0, 'latin1')
  octal(block, 100, 8, 0o644)
  octal(block, 108, 8, 0)
  octal(block, 116, 8, 0)
  octal(block, 124, 12, body.length)
  octal(block, 136, 12, 0)
  block.write('x', 156, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  seal(block)
  return Buffer.concat([block, body, tarPadding(body.length)])
}

function octal(block: Buffer, start: number, width: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 8 ** (width - 1)) {
    throw new LoamError('TAR_INVALID', `write tar: ${value} does not fit into a field of ${width} bytes`)
  }
  block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, start, 'latin1')
}

function seal(block: Buffer): void {
  block.fill(32, 148, 156)
  let sum = 0
  for (const byte of block) sum += byte
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}

/** The zero bytes between data of this size and the next header. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK)
}

/** The two zero blocks that end an archive. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * BLOCK)
}
