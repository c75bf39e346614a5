// The list of tags of a repository.
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, isTag, parseStrictJson } from '../image/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { readPages } from './pages.ts'
import type { RetryOptions } from './retry.ts'

/** Tags of one page. Some registries have a limit of their own, and some ignore this one. */
const PAGE_TAGS = 1000
const MAX_TAGS = 250_000
/** As of a manifest, since it is parsed at once; some 200,000 tags of a registry that has one page. */
const MAX_PAGE_BYTES = 4 << 20
/** Of all pages: as many tags of the largest length. */
const MAX_BYTES = 32 << 20

/** A registry without tags writes null, or leaves the list out. */
const TagsSchema = v.object({ tags: v.nullish(v.array(v.string())) })

/** How much of a list is read at most. Undefined: all, within the bounds of any list. */
export interface TagBounds {
  /** Pages to request. */
  readonly maxPages?: number | undefined
  /** Bytes of these pages. */
  readonly maxBytes?: number | undefined
}

/** A repository whose tags are listed. */
export interface TagsRequest extends TagBounds {
  readonly repository: string
  readonly scope: string
  readonly attempted: string
  readonly retry: RetryOptions
  readonly signal?: AbortSignal | undefined
}

/** Lists the tags of a repository in the registry's order; texts that cannot be tags are left out. @throws REGISTRY_*, IMAGE_NOT_FOUND for a repository that does not exist */
export async function listTags(session: EndpointSession, request: TagsRequest): Promise<string[]> {
  const { repository, attempted, maxBytes = MAX_BYTES } = request
  const tags = new Set<string>()
  const pages = {
    ...request,
    headers: { accept: 'application/json' },
    path: `${repository}/tags/list?n=${PAGE_TAGS}`,
    pageBytes: Math.min(MAX_PAGE_BYTES, maxBytes),
    allBytes: maxBytes,
  }
  const slice = new TimeSlice()
  await readPages(session, pages, async (bytes) => {
    for (const tag of check(TagsSchema, parseStrictJson(bytes, attempted), attempted).tags ?? []) {
      if (isTag(tag)) tags.add(tag)
      if (tags.size > MAX_TAGS)
        throw new LoamError('REGISTRY_RESPONSE', `${attempted}: there are more than ${MAX_TAGS} tags`)
      await slice.rest()
    }
  })
  return [...tags]
}
