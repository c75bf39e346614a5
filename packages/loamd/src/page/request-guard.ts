/*
 * Decides which requests at the port of the page are answered. Any user of this machine can connect to it, and any web site can make a browser of this
 * machine send requests to it. So only the files of the page, which contain no data, are answered without the token; and a request that a
 * browser sends for another site is refused even with it.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { HttpError } from '../http/problem.ts'

/** A site whose name resolves to this machine (DNS rebinding) sends that name. A forwarded port may have any number. */
const LOCAL_HOST = /^(?:127(?:\.\d{1,3}){3}|localhost|\[::1\])(?::\d{1,5})?$/

/** Returns whether a request names this machine by one of its own names. */
export function isForThisMachine({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return LOCAL_HOST.test(headers.host ?? '')
}

/** Checks that a request is for this machine by its own names. @throws HttpError */
export function checkHost(request: Pick<IncomingMessage, 'headers'>): void {
  const { host = '' } = request.headers
  if (!isForThisMachine(request))
    throw new HttpError(403, `read the request: the page is not at ${JSON.stringify(host)}`)
}

/** Checks that no other site has made a browser send a request. @throws HttpError */
export function checkOrigin({ headers }: Pick<IncomingMessage, 'headers'>): void {
  const { host = '', origin } = headers
  const site = headers['sec-fetch-site']
  const isOwn = origin === undefined || origin === `http://${host}`
  if (isOwn && (site === undefined || site === 'same-origin')) return
  throw new HttpError(403, 'read the request: it was sent for another site')
}

/** Checks the token of a request, in the same time for every wrong one. @throws HttpError */
export function checkToken(headers: IncomingHttpHeaders, token: string): void {
  const given = /^Bearer ([\w-]{1,200})$/.exec(headers.authorization ?? '')?.[1] ?? ''
  if (timingSafeEqual(hash(given), hash(token))) return
  throw new HttpError(401, 'read the request: it has no valid token')
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
