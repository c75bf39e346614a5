const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Limits of lines that are read. */
export interface LineLimits {
  readonly maxBytes: number
  /** Returns the error for a line that is longer. */
  readonly tooLong: () => Error
  /** Returns the error for a line that is not UTF-8. */
  readonly notText: () => Error
  /** Whether the stream may end without a line feed: its last line counts; otherwise it is incomplete and is left out. */
  readonly isEndOptional: boolean
}

/** Yields the lines of a stream of bytes. Linear in its length, however it is cut. @throws the errors for a long line and for one that is not UTF-8, and the errors of the stream */
export async function* readLines(
  stream: AsyncIterable<unknown>,
  { maxBytes, tooLong, notText, isEndOptional }: LineLimits,
): AsyncGenerator<string, void> {
  const parts: Buffer[] = []
  let bytes = 0
  const takeLine = () => {
    const line = Buffer.concat(parts.splice(0))
    try {
      return UTF8.decode(line)
    } catch {
      throw notText()
    }
  }
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
