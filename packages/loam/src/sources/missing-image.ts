import { isLoamError, throwIfAborted, withHint } from '../errors/index.ts'
import type { ImageReference } from '../image/index.ts'
import { TimeLimit } from '../linux/index.ts'
import type { RegistryClient } from '../registry/index.ts'

/** The list of tags only improves a message. */
const TIME_LIMIT_MS = 5000
const MAX_TAGS = 12
/** Comparing many would take the time of others in this thread. */
const MAX_COMPARED = 10_000
const MAX_BYTES = 1 << 20

/**
 * Returns the error of a manifest that was not found, with the tags that there are, or with the fact that there is no such repository. Other errors
 * are returned as they are. @throws CANCELED
 */
export async function explainMissing(
  error: unknown,
  reference: ImageReference,
  client: RegistryClient,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const { registry, repository, tag } = reference
  if (!isLoamError(error, 'IMAGE_NOT_FOUND') || tag === undefined || reference.digest !== undefined)
    return error
  const hint = await hintFor(reference, client, signal)
  throwIfAborted(signal, `list tags of ${registry}/${repository}`)
  return hint === undefined ? error : withHint(error, hint)
}

async function hintFor(
  reference: ImageReference,
  client: RegistryClient,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const { registry, repository, tag = '' } = reference
  using limit = new TimeLimit(TIME_LIMIT_MS, signal)
  try {
    const tags = await client.listTags(reference, { signal: limit.signal, maxPages: 1, maxBytes: MAX_BYTES })
    // Signatures and other artifacts of images are no tags for users.
    const images = tags.filter((each) => !/^sha256-[0-9a-f]{64}/.test(each))
    if (images.length === 0) return `The repository ${repository} has no tags.`
    const shown = nearest(images.slice(0, MAX_COMPARED), tag)
    const rest =
      images.length > shown.length ? `, among others (\`loam tags ${registry}/${repository}\`)` : ''
    return `The repository has the tags ${shown.join(', ')}${rest}.`
  } catch (error) {
    return isNameUnknown(error) ? noRepository(reference) : undefined
  }
}

/** Whether an error says that a registry has no such repository. Some registries answer 404 because they have no list of tags. */
export function isNameUnknown(error: unknown): boolean {
  return isLoamError(error, 'IMAGE_NOT_FOUND') && error.details['registryCode'] === 'NAME_UNKNOWN'
}

/** Returns the hint for a repository that does not exist. */
export function noRepository({ registry, repository }: ImageReference): string {
  return `${registry} has no repository ${repository}. Check the spelling of its name.`
}

/** Returns the tags that are most like a missing one: those with the longest common beginning, the newest version first. */
function nearest(tags: readonly string[], wanted: string): string[] {
  const common = (tag: string) => {
    let length = 0
    while (length < wanted.length && tag[length] === wanted[length]) length += 1
    return length
  }
  const order = new Intl.Collator('en', { numeric: true })
  return tags
    .toSorted(
      (a, b) =>
        common(b) - common(a) || Number(b === 'latest') - Number(a === 'latest') || order.compare(b, a),
    )
    .slice(0, MAX_TAGS)
}
