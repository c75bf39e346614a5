/**
 * Yields what a generator yields, and has it make the next piece while the reader works on this one. A reader that leaves does not wait for
 * what is being made: the generator ends when that is there.
 */
export async function* readAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = source.next()
  try {
    for (let piece = await next; piece.done !== true; piece = await next) {
      next = source.next()
      // The reader may have left by the time that it fails; otherwise the next await throws it.
      next.catch(() => undefined)
      yield piece.value
    }
  } finally {
    source.return(undefined).catch(() => undefined)
  }
}
