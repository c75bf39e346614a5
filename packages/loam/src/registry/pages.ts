// Lists that registries answer in pages. Source: OCI distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; RFC 8288 for the Link header.
import { LoamError } from '../errors/index.ts'
import { type DocumentResponse, getDocument } from './document.ts'
import type { EndpointSession, SessionRequest } from './endpoint-session.ts'
import { headerList } from './responses.ts'
import type { RetryOptions } from './retry.ts'

const MAX_PAGES = 1000

/** A list that is read page by page. */
export interface PagesRequest extends SessionRequest {
  readonly path: string
  readonly retry: RetryOptions
  /** Largest page in bytes. */
  readonly pageBytes: number
  /** Most bytes of all pages. */
  readonly allBytes: number
  /** Pages to request at most. Undefined: all. */
  readonly maxPages?: number | undefined
}

/**
 * Requests the pages of a list, and calls `onPage` with each. A link to a page that has been read ends it: some registries repeat themselves.
 * @throws REGISTRY_*, DOCUMENT_TOO_LARGE for a page or all of them, REGISTRY_RESPONSE for more than 1,000 pages, and what `onPage` throws
 */
export async function readPages(
  session: EndpointSession,
  { pageBytes, allBytes, maxPages = Infinity, ...request }: PagesRequest,
  onPage: (bytes: Buffer, response: DocumentResponse) => void | Promise<void>,
): Promise<void> {
  let url: URL | undefined
  let readBytes = 0
  const read = new Set([session.urlOf(request.path).href])
  for (let page = 0; page < maxPages; page += 1) {
    if (page === MAX_PAGES)
      throw new LoamError('REGISTRY_RESPONSE', `${request.attempted}: there are more than ${MAX_PAGES} pages`)
    const next = await getDocument(session, { ...request, url }, pageBytes, async (bytes, response) => {
      readBytes += bytes.length
      if (readBytes > allBytes)
        throw new LoamError('DOCUMENT_TOO_LARGE', `${request.attempted}: it has more than ${allBytes} bytes`)
      await onPage(bytes, response)
      return nextPage(headerList(response, 'link').join())
    })
    if (next === undefined) return
    url = session.resolve(next, url ?? session.urlOf(request.path), request.attempted)
    if (read.has(url.href)) return
    read.add(url.href)
  }
}

// Parts of a Link header (RFC 8288, 3). Some registries leave out the brackets. Adjacent parts match different characters, so that none can backtrack.
const TARGET = /[\s,]*(?:<([^>]*)>|([^\s,;<][^;<]*))/y
const PARAMETER = /\s*;\s*(?:([^\s;,="<>]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?)?/y

/** Returns the address of the next page: `</v2/…?last=x&n=1000>; rel="next"`. A field may have several links, and a link several types. */
function nextPage(link: string): string | undefined {
  for (let at = 0; at < link.length; ) {
    TARGET.lastIndex = at
    const target = TARGET.exec(link)
    if (target !== null) {
      at = TARGET.lastIndex
      let types: string | undefined
      for (;;) {
        PARAMETER.lastIndex = at
        const [parameter, name = '', quoted, token = ''] = PARAMETER.exec(link) ?? []
        if (parameter === undefined) break
        at = PARAMETER.lastIndex
        // The first one counts.
        if (name.toLowerCase() === 'rel') types ??= quoted?.replaceAll(/\\(.)/g, '$1') ?? token
      }
      if (types?.toLowerCase().split(/\s+/).includes('next') === true) return target[1] ?? target[2]?.trim()
    }
    // What cannot be read ends with the next comma.
    const comma = link.indexOf(',', at)
    if (comma < 0) break
    at = comma + 1
  }
  return undefined
}
