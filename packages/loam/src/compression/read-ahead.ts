/**
 * Yields the values of a generator, and lets it produce the next one while the reader works on this one. A reader that stops does not wait for
 * a value in progress: the generator ends when that is complete.
 */
export async function* readAhead<T>(source: AsyncGenerator<T>): AsyncGenerator<T> {
  let next = source.next()
  try {
    for (let piece = await next; piece.done !== true; piece = await next) {
      next = source.next()
      // The reader may have stopped before it fails; otherwise the next await throws the error.
      next.catch(() => undefined)
      yield piece.value
    }
  } finally {
    source.return(undefined).catch(() => undefined)
  }
}
