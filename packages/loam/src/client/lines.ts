import { LoamError } from '../errors/index.ts'

/** Limit of the length of a line, which may hold a whole result. */
const MAX_LINE_BYTES = 256 << 20

/** Yields the lines of a stream. @throws INTERNAL for a line without end, and the errors of the stream */
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
  // A last line without an end is incomplete: the daemon ended while it wrote.
}
