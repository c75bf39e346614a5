import { LoamError } from '../errors/index.ts'

/**
 * Reads a number field of a tar header: octal digits with leading and trailing blanks or NULs, or, when the
 * first bit is set, two's complement in base 256 (GNU). Anything else is an error and not a zero: archivers that
 * read such fields differently see different archives.
 * @throws TAR_INVALID
 */
export function readNumber(block: Uint8Array, start: number, length: number, what: string): number {
  const first = block[start] ?? 0
  return (first & 0x80) === 0
    ? readOctal(block, start, length, what)
    : readBase256(block, start, length, what)
}

/** Reads a number field that is not negative. @throws TAR_INVALID */
export function readCount(block: Uint8Array, start: number, length: number, what: string): number {
  const count = readNumber(block, start, length, what)
  if (count < 0) throw new LoamError('TAR_INVALID', `read tar: the ${what} ${count} is negative`)
  return count
}

function readOctal(block: Uint8Array, start: number, length: number, what: string): number {
  const end = start + length
  let at = start
  while (at < end && isBlank(block[at])) at += 1
  let value = 0
  for (; at < end && !isBlank(block[at]); at += 1) {
    const digit = (block[at] ?? 0) - 48
    if (digit < 0 || digit > 7) throw malformed(what)
    value = value * 8 + digit
  }
  while (at < end && isBlank(block[at])) at += 1
  if (at < end) throw malformed(what)
  return value
}

function isBlank(byte: number | undefined): boolean {
  return byte === 32 || byte === 0
}

function readBase256(block: Uint8Array, start: number, length: number, what: string): number {
  const first = block[start] ?? 0
  const isNegative = (first & 0x40) !== 0
  let value = BigInt(first & 0x3f) - (isNegative ? 0x40n : 0n)
  for (let at = start + 1; at < start + length; at += 1) value = value * 256n + BigInt(block[at] ?? 0)
  return toSafeNumber(value, what)
}

function toSafeNumber(value: bigint, what: string): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number))
    throw new LoamError('TAR_INVALID', `read tar: ${what} ${value} is out of range`)
  return number
}

/** Reads a decimal number of a pax record. @throws TAR_INVALID */
export function readDecimal(text: string, what: string): number {
  if (!/^\d{1,19}$/.test(text)) throw malformed(what)
  return toSafeNumber(BigInt(text), what)
}

/** Reads a pax time: seconds with a sign and a fraction. Digits past the nanosecond are cut. @throws TAR_INVALID */
export function readPaxTime(text: string): { seconds: number; nanoseconds: number } {
  const match = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(text)
  if (match === null) throw malformed('time')
  const [, sign = '', whole = '', fraction = ''] = match
  const seconds = readDecimal(whole, 'time')
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'))
  if (sign === '') return { seconds, nanoseconds }
  // -1.25 is the second -2 and 0.75 above it.
  return nanoseconds === 0
    ? { seconds: 0 - seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }
}

function malformed(what: string): LoamError {
  return new LoamError('TAR_INVALID', `read tar: malformed ${what}`)
}
