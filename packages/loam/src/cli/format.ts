import { visible } from '../errors/index.ts'

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** Returns a size for display, in powers of 1000, as `docker images` does. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toPrecision(3)} ${UNITS[unit]}`
}

/** Returns a duration for display: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatDuration(ms: number): string {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Returns how long ago a time was. */
export function formatAge(thenMs: number, nowMs = Date.now()): string {
  const seconds = Math.max(0, Math.round((nowMs - thenMs) / 1000))
  const steps: readonly (readonly [number, string])[] = [
    [86_400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ]
  const [size, name] = steps.find(([step]) => seconds >= step) ?? [1, 'second']
  const count = Math.floor(seconds / size)
  return `${count} ${name}${count === 1 ? '' : 's'} ago`
}

/** Returns a text whose every character has the width of one column, for lines that are drawn at a terminal. */
export function toAscii(text: string): string {
  return text.replaceAll(/[^ -~]/gu, '?')
}

/** Returns a digest short enough for a table. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha\d+:/, '').slice(0, 12)
}

/** Returns the beginning of a command, as long as docker shows it. */
export function shortCommand(words: string): string {
  const letters = Array.from(words)
  return letters.length > 20 ? `${letters.slice(0, 19).join('')}…` : words
}

/** A longer cell moves the rest of its own row, and does not widen the column. */
const MAX_WIDTH = 100
/** The length of two paths of Linux. */
const MAX_CELL_LENGTH = 8192

/** Formats rows as columns below a heading. Cells are cut and escaped first, so that no text moves a column or begins a line. */
export function formatTable(heading: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [heading, ...rows.map((row) => row.map((cell) => visible(cell.slice(0, MAX_CELL_LENGTH))))]
  const widths = heading.map((_cell, column) =>
    all.reduce((width, row) => Math.max(width, Math.min((row[column] ?? '').length, MAX_WIDTH)), 0),
  )
  return all.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('   ')
      .trimEnd(),
  )
}
