import { LoamError } from '../errors/index.ts'

/** A result is one line. */
const MAX_LINE_BYTES = 256 << 20

/** Yields the lines of a stream. @throws INTERNAL for a line without end, and what the stream throws */
export async function* readLines(stream: AsyncIterable<unknown>): AsyncGenerator<string, void> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    let rest = Buffer.from(chunk as Buffer)
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      parts.push(rest.subarray(0, end))
      yield Buffer.concat(parts.splice(0)).toString('utf8')
      rest = rest.subarray(end + 1)
      bytes = 0
    }
    bytes += rest.length
    if (bytes > MAX_LINE_BYTES) throw new LoamError('INTERNAL', 'read a line of the daemon: it is too long')
    if (rest.length > 0) parts.push(rest)
  }
  // A line without an end is part of one: the daemon ended in the middle of it.
}
