/** Limits of lines that are read. */
export interface LineLimits {
  readonly maxBytes: number
  /** Returns the error for a line that is longer. */
  readonly tooLong: () => Error
  /** Whether the stream may end without a line feed: its last line counts; otherwise it is incomplete and is left out. */
  readonly isEndOptional: boolean
}

/** Yields the lines of a stream of bytes. Linear in its length, however it is cut. @throws the error for a long line, and the errors of the stream */
export async function* readLines(
  stream: AsyncIterable<unknown>,
  { maxBytes, tooLong, isEndOptional }: LineLimits,
): AsyncGenerator<string, void> {
  const parts: Buffer[] = []
  let bytes = 0
  const takeLine = () => Buffer.concat(parts.splice(0)).toString('utf8')
  for await (const chunk of stream) {
    let rest = Buffer.from(chunk as Buffer)
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      if (bytes + end > maxBytes) throw tooLong()
      parts.push(rest.subarray(0, end))
      yield takeLine()
      rest = rest.subarray(end + 1)
      bytes = 0
    }
    bytes += rest.length
    if (bytes > maxBytes) throw tooLong()
    if (rest.length > 0) parts.push(rest)
  }
  if (isEndOptional && parts.length > 0) yield takeLine()
}
