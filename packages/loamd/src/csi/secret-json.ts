/** Parses a text with secrets that ought to be a JSON object; undefined if it is none. A parser's message would quote the text. */
export function parseSecretObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}
