// The list of an image's referrers. Source: OCI distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { type Digest, MEDIA_TYPES, parseStrictJson, referrersTag } from '../image/index.ts'
import type { EndpointSession } from './endpoint-session.ts'
import { type ManifestRequest, readManifest, unlessMissing } from './manifests.ts'
import { readPages } from './pages.ts'

/** Of all pages. */
const MAX_BYTES = 64 << 20
/** What registries without the API answer: 404 by the specification, others because of the path or the media type. */
const NO_API: readonly number[] = [400, 404, 405, 406, 501]

/** An index of OCI; its entries are not checked here. */
const PageSchema = v.object({
  mediaType: v.optional(v.picklist([MEDIA_TYPES.ociIndex, ''])),
  manifests: v.nullable(v.array(v.unknown())),
})

/** Gets the pages of the list at one endpoint; without the API, the index under the tag `sha256-…`. @throws REGISTRY_*, IMAGE_NOT_FOUND for a mirror without any */
export async function readReferrers(
  session: EndpointSession,
  request: ManifestRequest,
  digest: Digest,
): Promise<readonly Buffer[]> {
  const pages = (await readFromApi(session, request, digest)) ?? (await readFromTag(session, request, digest))
  // Only the registry itself knows that there is none.
  if (session.isMirror && pages.every((page) => isEmpty(page)))
    throw new LoamError('IMAGE_NOT_FOUND', `get referrers of ${digest}: the mirror has none`)
  return pages
}

async function readFromApi(
  session: EndpointSession,
  { reference, manifestBytes, ...asked }: ManifestRequest,
  digest: Digest,
): Promise<readonly Buffer[] | undefined> {
  const attempted = `get referrers of ${digest} in ${reference.repository}`
  const request = {
    ...asked,
    path: `${reference.repository}/referrers/${digest}`,
    headers: { accept: MEDIA_TYPES.ociIndex },
    attempted,
    accepts: [200, ...NO_API],
    pageBytes: manifestBytes,
    allBytes: MAX_BYTES,
  }
  const pages: Buffer[] = []
  let hasApi = true
  await readPages(session, request, (bytes, { statusCode }) => {
    const isPage = statusCode === 200 && parsePage(bytes) !== undefined
    if (pages.length === 0) hasApi = isPage
    else if (hasApi && !isPage)
      throw new LoamError('REGISTRY_RESPONSE', `${attempted}: a page of the list is none`)
    pages.push(bytes)
  })
  return hasApi ? pages : undefined
}

async function readFromTag(
  session: EndpointSession,
  request: ManifestRequest,
  digest: Digest,
): Promise<readonly Buffer[]> {
  const reference = { ...request.reference, tag: referrersTag(digest), digest: undefined }
  const found = await unlessMissing(readManifest(session, { ...request, reference }))
  return found === undefined ? [] : [found.bytes]
}

function isEmpty(page: Buffer): boolean {
  return (parsePage(page)?.manifests?.length ?? 0) === 0
}

/** Returns undefined for anything but an index of OCI. */
function parsePage(bytes: Buffer): v.InferOutput<typeof PageSchema> | undefined {
  try {
    const page = v.safeParse(PageSchema, parseStrictJson(bytes, 'referrers'))
    return page.success ? page.output : undefined
  } catch {
    return undefined
  }
}
