/** A table before it is formatted. */
export interface Table {
  readonly headings: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** Characters between two columns. */
const GAP = 3
/** A column is not cut to less. */
const MIN_WIDTH = 8

/**
 * Fits a table into a width: leaves out columns in the order of `leftOut` (1 first; undefined: never), and then cuts the cells of the widest
 * columns. A table of a few narrow columns may still be wider.
 */
export function fitTable(table: Table, leftOut: readonly (number | undefined)[], width: number): Table {
  let kept = table.headings.map((_heading, column) => column)
  const removable = [...kept]
    .filter((column) => leftOut[column] !== undefined)
    .toSorted((a, b) => (leftOut[a] ?? 0) - (leftOut[b] ?? 0))
  for (const column of removable) {
    if (widthOf(table, kept) <= width) break
    kept = kept.filter((each) => each !== column)
  }
  const chosen = {
    headings: kept.map((column) => table.headings[column] ?? ''),
    rows: table.rows.map((row) => kept.map((column) => row[column] ?? '')),
  }
  return cut(chosen, width)
}

function widths({ headings, rows }: Table): number[] {
  return headings.map((heading, column) =>
    rows.reduce((widest, row) => Math.max(widest, (row[column] ?? '').length), heading.length),
  )
}

function widthOf(table: Table, columns: readonly number[]): number {
  const all = widths(table)
  return columns.reduce((sum, column) => sum + (all[column] ?? 0) + GAP, -GAP)
}

function cut(table: Table, width: number): Table {
  const limits = widths(table)
  const total = () => limits.reduce((sum, limit) => sum + limit + GAP, -GAP)
  while (total() > width) {
    const widest = limits.indexOf(Math.max(...limits))
    const limit = limits[widest] ?? 0
    if (limit <= MIN_WIDTH) break
    limits[widest] = Math.max(MIN_WIDTH, limit - (total() - width), secondOf(limits) - 1)
  }
  return {
    headings: table.headings.map((text, column) => shortened(text, limits[column])),
    rows: table.rows.map((row) => row.map((text, column) => shortened(text, limits[column]))),
  }
}

/** The widest column is cut to less than the next one, before both are cut. */
function secondOf(limits: readonly number[]): number {
  return limits.toSorted((a, b) => b - a)[1] ?? 0
}

function shortened(text: string, limit = text.length): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`
}
