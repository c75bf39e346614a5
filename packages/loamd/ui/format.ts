const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const
const UNIT = 1024
const STEPS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
]
const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
const DIGEST_DIGITS = 12

/** Returns a size for display: `12.3 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= UNIT && unit + 1 < UNITS.length) {
    value /= UNIT
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** Returns a part of a whole, as `12 %`. */
export function formatShare(part: number, whole: number): string {
  if (whole <= 0) return '0 %'
  const percent = (100 * part) / whole
  return percent > 0 && percent < 1 ? '< 1 %' : `${Math.round(percent)} %`
}

/** Returns how long ago a time was: `3 hours ago`. */
export function formatAge(timeMs: number, nowMs = Date.now()): string {
  const passedMs = nowMs - timeMs
  const [unit, unitMs] = STEPS.find(([, stepMs]) => passedMs >= stepMs) ?? ['second', 1000]
  return passedMs < 10_000 ? 'just now' : RELATIVE.format(-Math.round(passedMs / unitMs), unit)
}

/** Returns a number with its noun: `1 image`, `3 images`. */
export function formatCount(count: number, word: string): string {
  return `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`
}

/** Returns the first digits of a digest. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha\d+:/, '').slice(0, DIGEST_DIGITS)
}

/** Splits a name into the registry's host, with the slash behind it, and the rest. */
export function splitHost(name: string): [string, string] {
  const end = name.indexOf('/') + 1
  const host = name.slice(0, end)
  return /[.:]|^localhost\/$/.test(host) ? [host, name.slice(end)] : ['', name]
}

/** Returns the shortest name that identifies an image. */
export function imageName(image: { readonly digest: string; readonly names: readonly string[] }): string {
  return image.names[0] ?? shortDigest(image.digest)
}
