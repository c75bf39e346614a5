import { findNear, LoamError } from '../errors/index.ts'

/**
 * Refuses an option that a call does not have: a program without types would work on without it. `hintOf` says what else a name may be meant as.
 * @throws USAGE
 */
export function checkOptionNames(
  call: string,
  options: object,
  names: readonly string[],
  hintOf: (name: string) => string | undefined = () => undefined,
): void {
  const unknown = Object.keys(options).find((name) => !names.includes(name))
  if (unknown === undefined) return
  const [near] = findNear(unknown, names)
  const meant = near === undefined ? `The options are ${names.join(', ')}.` : `Did you mean ${near}?`
  throw new LoamError('USAGE', `call ${call}: ${unknown} is not an option`, {
    hint: hintOf(unknown) ?? meant,
    details: { field: unknown },
  })
}
