// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g
const URL_LIKE = /\b([a-z][a-z0-9+.-]*:\/\/)([^\s/?#"']*@)?([^\s?#"']*)(\?[^\s#"']*)?/gi
const SECRET = /\b(bearer|basic)\s+[a-z0-9._~+/=-]{4,}/gi

/**
 * Makes a text safe for a terminal and a log: URL user-info and query strings and authorization values are
 * left out, control characters (a server's text may hold escape sequences) are written as `\xNN`.
 */
export function redact(text: string): string {
  return text
    .replace(CONTROL, escapeCharacter)
    .replace(URL_LIKE, (_all, scheme: string, _user: unknown, rest: string, query?: string) =>
      query === undefined ? `${scheme}${rest}` : `${scheme}${rest}?…`,
    )
    .replace(SECRET, '$1 …')
}

function escapeCharacter(character: string): string {
  if (character === '\n') return '\\n'
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
}
