import { setImmediate } from 'node:timers/promises'

/** Does something, and returns its result with the number of turns that other work of this thread had meanwhile. */
export async function countTurns<T>(
  act: () => Promise<T>,
): Promise<{ readonly result: T; readonly turns: number }> {
  let turns = 0
  const done = new AbortController()
  const others = (async () => {
    for (; !done.signal.aborted; turns++) await setImmediate()
  })()
  const result = await act()
  const counted = { result, turns }
  done.abort()
  await others
  return counted
}
