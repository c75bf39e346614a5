import { InvalidArgumentError } from 'commander'

const UNITS: readonly string[] = ['K', 'M', 'G', 'T']

/** Help for the limit of a writable layer. */
export const SIZE_HELP =
  'bytes that may be written to the root filesystem, for example 512M (default: no limit)'

/** Parses a size as qemu-img and truncate do: a number with K, M, G or T for powers of 1024. @throws InvalidArgumentError */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT])?i?B?$/i.exec(text)
  const power = match?.[2] === undefined ? 0 : UNITS.indexOf(match[2].toUpperCase()) + 1
  const bytes = Math.floor(Number(match?.[1]) * 1024 ** power)
  if (match === null || !Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new InvalidArgumentError('A size is a number with K, M, G or T, for example 512M.')
  }
  return bytes
}
