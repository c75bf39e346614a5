import { setImmediate } from 'node:timers/promises'

/** Does something, and returns its result with the number of turns that other work of this thread had meanwhile. */
export async function countTurns<T>(
  act: () => Promise<T>,
): Promise<{ readonly result: T; readonly turns: number }> {
  let turns = 0
  let isDone = false
  const others = (async () => {
    for (; !isDone; turns++) await setImmediate()
  })()
  const result = await act()
  const counted = { result, turns }
  isDone = true
  await others
  return counted
}
