// Lists that registries answer in pages. Source: OCI distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; RFC 8288 for the Link header.
import { LoamError } from '../errors/index.ts'
import { type DocumentResponse, getDocument } from './document.ts'
import type { EndpointSession, SessionRequest } from './endpoint-session.ts'
import { header } from './responses.ts'
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
      return nextPage(header(response, 'link'))
    })
    if (next === undefined) return
    url = session.resolve(next, url ?? session.urlOf(request.path), request.attempted)
    if (read.has(url.href)) return
    read.add(url.href)
  }
}

/** Returns the address of the next page: `</v2/…?last=x&n=1000>; rel="next"`. Some registries leave out the brackets. */
function nextPage(link: string | undefined): string | undefined {
  const next = link?.split(/,(?=\s*<)/).find((each) => /;\s*rel="?next"?\s*(?:;|$)/i.test(each))
  return next === undefined ? undefined : (/^\s*<([^>]*)>/.exec(next)?.[1] ?? next.split(';')[0]?.trim())
}
