/*
 * Redacts every message. Most of its text may come from outside (a server's message, a name in an archive, a key of a document) and have any length:
 * it is cut first, and all further work takes time linear in the rest.
 */
import { visible } from './visible.ts'

/** Limit of a text in a message, in characters. A path of Linux with words around it fits. */
export const MAX_TEXT_LENGTH = 8192

/** Shorter texts would remove words from messages, and are not secrets. */
const MIN_SECRET_LENGTH = 6
/** A server chooses its texts; one that is removed from messages has to look like a key. */
const MIN_SERVER_SECRET_LENGTH = 16
/** Number of characters at the beginning of a secret by which it is recognized. */
const HEAD_LENGTH = 64
const MAX_SECRETS = 500

/**
 * Secrets that must not appear in any message: servers repeat in their errors what they received. Secrets from servers are kept separately, and evict
 * none of ours.
 */
const ours = new Set<string>()
const ofServers = new Set<string>()

/** Redacts a password, a token or a header that carries one in all later messages of this process. */
export function keepSecret(secret: string): void {
  if (secret.length < MIN_SECRET_LENGTH) return
  for (const spelling of spellingsOf(secret)) keep(ours, spelling)
}

/** The forms in which a server may repeat a secret: unchanged, URL-encoded, or as JSON. */
function spellingsOf(secret: string): Set<string> {
  const inForm = new URLSearchParams([['', secret]]).toString().slice(1)
  const inAddress = inForm.replaceAll('+', '%20')
  const lower = (text: string) => text.replaceAll(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase())
  const inJson = JSON.stringify(secret).slice(1, -1)
  return new Set([secret, inForm, inAddress, lower(inForm), lower(inAddress), inJson])
}

/** The same for a value from a server that may be a key, such as the values of a signed URL. Short ones are not kept. */
export function keepServerSecret(secret: string): void {
  if (secret.length >= MIN_SERVER_SECRET_LENGTH) keep(ofServers, secret)
}

function keep(secrets: Set<string>, secret: string): void {
  secrets.delete(secret)
  secrets.add(secret)
  const [oldest] = secrets
  if (secrets.size > MAX_SECRETS && oldest !== undefined) secrets.delete(oldest)
}

/**
 * Makes a text safe for a terminal and a log: it is cut to `MAX_TEXT_LENGTH`; kept secrets, URL user-info and query strings and authorization
 * values are removed; invisible characters are escaped (a server's text may hold escape sequences). Takes time in proportion to the result.
 */
export function redact(text: string): string {
  const shown = visible(withoutAuthorizations(withoutAddressSecrets(withoutSecrets(text))))
  if (text.length <= MAX_TEXT_LENGTH && shown.length <= MAX_TEXT_LENGTH) return shown
  const note = `… (cut from ${text.length} characters)`
  return shown.slice(0, MAX_TEXT_LENGTH - note.length) + note
}

interface Stretch {
  readonly from: number
  readonly to: number
}

/** Returns the shortened text without secrets; also removes those that a server has cut. */
function withoutSecrets(text: string): string {
  // So much longer than the result that the beginning of each secret in it is complete.
  const start = text.slice(0, MAX_TEXT_LENGTH + HEAD_LENGTH)
  const found = [...ours, ...ofServers].flatMap((secret) => findSecret(secret, start))
  let open = ''
  let at = 0
  for (const { from, to } of found.toSorted((a, b) => a.from - b.from)) {
    if (from >= MAX_TEXT_LENGTH) break
    if (from >= at) open += `${start.slice(at, from)}…`
    at = Math.max(at, to)
  }
  return open + start.slice(at, Math.max(at, MAX_TEXT_LENGTH))
}

function findSecret(secret: string, text: string): Stretch[] {
  const head = secret.slice(0, HEAD_LENGTH)
  const found: Stretch[] = []
  for (let from = text.indexOf(head); from >= 0; ) {
    let length = head.length
    while (length < secret.length && secret[length] === text[from + length]) length += 1
    found.push({ from, to: from + length })
    from = text.indexOf(head, from + length)
  }
  return found
}

const AUTHORITY = /^[^\s/?#"']*/
/** A password may contain quotes. */
const USER_INFO = /^[^\s/?#]*@/
const PATH_AND_QUERY = /^([^?\s#"']*)\?[^\s#"']+/

/** Removes user, password and query from every URL, also from one in the path of another. */
function withoutAddressSecrets(text: string): string {
  const [before = '', ...addresses] = text.split('://')
  let open = before
  let isQuery = false
  for (const address of addresses) {
    if (isQuery) {
      // A URL in the query of another one is removed with the query.
      const end = address.search(/[\s#"']/)
      if (end >= 0) open += address.slice(end)
      isQuery = end < 0
      continue
    }
    const [user = ''] = USER_INFO.exec(address) ?? []
    const [host = ''] = AUTHORITY.exec(address.slice(user.length)) ?? []
    const rest = address.slice(user.length + host.length)
    open += `://${host}`
    const [whole = '', path] = PATH_AND_QUERY.exec(rest) ?? []
    open += path === undefined ? rest : `${path}?…${rest.slice(whole.length)}`
    isQuery = path !== undefined && whole.length === rest.length
  }
  return open
}

const AUTHORIZATION = /\b(bearer|basic)\s+[a-z0-9._~+/=-]{4,}/gi

function withoutAuthorizations(text: string): string {
  return text.replace(AUTHORIZATION, '$1 …')
}
