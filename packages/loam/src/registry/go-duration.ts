const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}
const PART = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g

/** Longer texts are not durations. */
const MAX_LENGTH = 64

/**
 * Parses a duration that is not negative as Go writes it (`200ms`, `1m30s`, `0`), in ms; undefined if it is not one.
 * Source: Go's time.ParseDuration.
 */
export function parseGoDuration(text: string): number | undefined {
  if (text === '0') return 0
  if (text === '' || text.length > MAX_LENGTH || text.replaceAll(PART, '') !== '') return undefined
  return [...text.matchAll(PART)]
    .map(([, value, unit]) => Number(value) * (UNITS_MS[unit ?? ''] ?? 0))
    .reduce((sum, part) => sum + part, 0)
}
