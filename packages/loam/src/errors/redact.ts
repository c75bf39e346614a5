// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g
const URL_LIKE = /\b([a-z][a-z0-9+.-]*:\/\/)([^\s/?#"']*@)?([^\s?#"']*)(\?[^\s#"']*)?/gi
const SECRET = /\b(bearer|basic)\s+[a-z0-9._~+/=-]{4,}/gi

/** What must not be told, whoever says it: servers repeat in their errors what they were sent. */
const secrets = new Set<string>()
const MAX_SECRETS = 500
/** Shorter ones would take words out of messages, and are no secrets. */
const MIN_SECRET_LENGTH = 6

/** Keeps a password, a token or a header that carries one out of all messages of this process from here on. */
export function keepSecret(secret: string): void {
  if (secret.length < MIN_SECRET_LENGTH) return
  secrets.delete(secret)
  secrets.add(secret)
  const [oldest] = secrets
  if (secrets.size > MAX_SECRETS && oldest !== undefined) secrets.delete(oldest)
}

/**
 * Makes a text safe for a terminal and a log: URL user-info and query strings and authorization values are
 * left out and so are kept secrets, control characters (a server's text may hold escape sequences) are written as `\xNN`.
 */
export function redact(text: string): string {
  let open = text
  for (const secret of secrets) open = open.replaceAll(secret, '…')
  return open
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
