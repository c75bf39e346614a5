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

/** Parses a positive duration as Go writes it (`200ms`, `1m30s`), in whole ms; undefined if it is not one. Source: Go's time.ParseDuration. */
export function parseGoDuration(text: string): number | undefined {
  if (text.replaceAll(PART, '') !== '') return undefined
  const parts = [...text.matchAll(PART)].map(([, value, unit]) => Number(value) * (UNITS_MS[unit ?? ''] ?? 0))
  const timeMs = parts.reduce((sum, part) => sum + part, 0)
  return timeMs > 0 ? Math.max(1, Math.round(timeMs)) : undefined
}
