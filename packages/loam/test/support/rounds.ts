/**
 * Returns how many rounds a test runs: all of them, or few where the tier is run with `--few` (scripts/run-tests.ts). An environment variable
 * asks for any other number of one test.
 */
export function rounds(all: number, few: number, variable?: string): number {
  const asked = variable === undefined ? undefined : process.env[variable]
  if (asked !== undefined) return Number(asked)
  return process.env['FEW_ROUNDS'] === '1' ? few : all
}
