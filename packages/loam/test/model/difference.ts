const MAX_LINES = 12
const MAX_CHARACTERS = 300

/** Returns the lines in which two listings differ, as one text; an empty list if they are the same. */
export function difference(what: string, actual: readonly string[], expected: readonly string[]): string[] {
  const [has, wants] = [new Set(actual), new Set(expected)]
  const lines = [
    ...expected.filter((line) => !has.has(line)).map((line) => `  missing ${line.slice(0, MAX_CHARACTERS)}`),
    ...actual.filter((line) => !wants.has(line)).map((line) => `  extra   ${line.slice(0, MAX_CHARACTERS)}`),
  ]
  if (lines.length === 0) return []
  return [[what, ...lines.slice(0, MAX_LINES), `  ${lines.length} lines differ`].join('\n')]
}
