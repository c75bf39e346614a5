import { type StoredReference } from '../image/index.ts'
import { LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import type { AskedFor, ImageSource, SourceDocument } from './image-source.ts'

/** Opens one of several locations that may have an image. */
export interface SourceCandidate {
  /** For messages. */
  readonly where: string
  readonly open: (signal: AbortSignal | undefined) => Promise<ImageSource>
}

/**
 * Creates a source of the first location that has the image. A location that fails is skipped, and reported if all fail. The whole
 * image comes from the first location that answers.
 */
export function firstSource(
  name: StoredReference,
  asked: AskedFor,
  candidates: readonly SourceCandidate[],
): ImageSource {
  let chosen: { readonly source: ImageSource; readonly document: SourceDocument } | undefined
  const choose = async (signal: AbortSignal | undefined) =>
    (chosen ??= await findFirst(name, candidates, signal))
  return {
    name,
    asked,
    // The location that answered need not be that of the name.
    from: () =>
      chosen === undefined ? [] : [...chosen.source.asked.locations, ...(chosen.source.from?.() ?? [])],
    origin: () => chosen?.source.origin?.(),
    // Asking any of the locations takes time, so that images of the store are used first.
    isRemote: true,
    isConverted: true,
    get aliases() {
      return chosen?.source.aliases.filter((alias) => alias !== name) ?? []
    },
    resolve: async (signal) => (await choose(signal)).document,
    getDocument: async (descriptor, limit, signal) =>
      (await choose(signal)).source.getDocument(descriptor, limit, signal),
    findSignatures: async function* findSignatures(digests, signal) {
      const { source } = await choose(signal)
      yield* source.findSignatures?.(digests, signal) ?? []
    },
    findReferrers: async (digests, signal) =>
      (await (await choose(signal)).source.findReferrers?.(digests, signal)) ?? [],
    get lazyArtifacts() {
      return chosen?.source.lazyArtifacts
    },
    get isResumable() {
      return chosen?.source.isResumable
    },
    async *openBlob(descriptor, options = {}) {
      yield* (await choose(options.signal)).source.openBlob(descriptor, options)
    },
  }
}

async function findFirst(
  name: string,
  candidates: readonly SourceCandidate[],
  signal: AbortSignal | undefined,
) {
  const failures: { readonly where: string; readonly error: LoamError }[] = []
  for (const { where, open } of candidates) {
    try {
      const source = await open(signal)
      return { source, document: await source.resolve(signal) }
    } catch (error) {
      throwIfAborted(signal, `look for ${name} in ${where}`)
      failures.push({ where, error: toLoamError(error, `look for ${name} in ${where}`) })
    }
  }
  const [first, second] = failures
  if (first === undefined) throw new LoamError('CONFIG_INVALID', `find ${name}: no location is configured`)
  if (second === undefined) throw first.error
  // Another failure explains more than that an image was not found.
  const clearest = failures.findLast(({ error }) => error.kind !== 'not_found') ?? failures.at(-1) ?? first
  throw new LoamError(
    clearest.error.code,
    failures.map(({ where, error }) => `${where}: ${error.message}`).join('; '),
    {
      cause: clearest.error,
      hint: clearest.error.hint,
    },
  )
}
