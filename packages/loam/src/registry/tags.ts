// The list of tags of a repository, in pages. Source: OCI distribution-spec 1.1, "Listing Tags"; RFC 8288 for the Link header.
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { getDocument } from './document.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { header } from './responses.ts'
import type { RetryOptions } from './retry.ts'

/** Tags of one page. Some registries have a limit of their own, and some ignore this one. */
const PAGE_TAGS = 1000
const MAX_PAGES = 1000
const MAX_TAGS = 1_000_000
const MAX_PAGE_BYTES = 64 << 20

/** A registry without tags writes null, or leaves the list out. */
const TagsSchema = v.object({ tags: v.nullish(v.array(v.string())) })

/** A repository whose tags are listed. */
export interface TagsRequest {
  readonly repository: string
  readonly scope: string
  readonly attempted: string
  readonly retry: RetryOptions
  /** Pages to request at most. Undefined: all. */
  readonly maxPages?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Lists the tags of a repository in the registry's order. @throws REGISTRY_*, IMAGE_NOT_FOUND for a repository that does not exist */
export async function listTags(session: EndpointSession, request: TagsRequest): Promise<string[]> {
  const { repository, attempted, maxPages = MAX_PAGES } = request
  const tags = new Set<string>()
  const path = `${repository}/tags/list`
  let url: URL | undefined
  for (let page = 0; page < Math.min(maxPages, MAX_PAGES); page += 1) {
    const before = tags.size
    const asked = { ...request, headers: { accept: 'application/json' }, path: `${path}?n=${PAGE_TAGS}`, url }
    const next = await getDocument(session, asked, MAX_PAGE_BYTES, (bytes, response) => {
      for (const tag of check(TagsSchema, parseStrictJson(bytes, attempted), attempted).tags ?? [])
        tags.add(tag)
      return nextPage(header(response, 'link'))
    })
    if (tags.size > MAX_TAGS)
      throw new LoamError('REGISTRY_RESPONSE', `${attempted}: there are more than ${MAX_TAGS} tags`)
    // A registry that repeats a page would never end.
    if (next === undefined || tags.size === before) break
    url = session.resolve(next, url ?? session.urlOf(path), attempted)
  }
  return [...tags]
}

/** Returns the address of the next page: `</v2/…?last=x&n=1000>; rel="next"`. Some registries leave out the brackets. */
function nextPage(link: string | undefined): string | undefined {
  const next = link?.split(/,(?=\s*<)/).find((each) => /;\s*rel="?next"?\s*(?:;|$)/i.test(each))
  return next === undefined ? undefined : (/^\s*<([^>]*)>/.exec(next)?.[1] ?? next.split(';')[0]?.trim())
}
