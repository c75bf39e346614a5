// Rounds that the tiers skip with `--few` and `--short` (scripts/run-tests.ts): in `npm test`, `npm run test:system` and `npm run verify`.
// `npm run verify:all` skips nothing.

/** Whether the tiers are run with `--few`. */
export const isFew = process.env['FEW_ROUNDS'] === '1'

/**
 * Returns how many rounds a test runs: all of them, or few if the tier is run with `--few`. An environment variable sets any other number for
 * one test.
 */
export function rounds(all: number, few: number, variable?: string): number {
  const asked = variable === undefined ? undefined : process.env[variable]
  if (asked !== undefined) return Number(asked)
  return isFew ? few : all
}

/** Returns the cases of a list that a test runs: all of them, or the first few. The first ones show every kind at least once. */
export function someOf<T>(cases: readonly T[], few: number): readonly T[] {
  return isFew ? cases.slice(0, few) : cases
}

/**
 * Returns the inner cases of a matrix that are run for an outer one, by its place in its list: all of them, or the one whose turn it is, so that
 * as many outer cases as there are inner ones show each of these.
 */
export function byTurns<T>(cases: readonly T[], place: number): readonly T[] {
  return isFew ? cases.filter((_case, index) => index === place % cases.length) : cases
}
