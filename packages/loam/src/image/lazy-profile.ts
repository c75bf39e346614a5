/*
 * The profile of an image: the spans of its layers that containers read first (docs/lazy.md). A hint, which decides nothing but an order.
 *
 *   {"version":1,"layers":[{"index":"sha256:…","spans":[4,5,17]}]}
 *
 * `index` is the digest of the lazy index whose spans are numbered.
 */
import * as v from 'valibot'
import { type Digest, isDigest } from './digest.ts'
import { check } from './documents.ts'
import { parseStrictJson } from './json.ts'

/** A profile of thousands of spans is 100 KB. */
export const MAX_PROFILE_BYTES = 1 << 20

/** Spans of one layer: a container that reads more than this within seconds is filled as fast in any order. */
export const MAX_PROFILE_SPANS = 4096

/** The spans of each layer in the order of their first reads, by the digests of the indexes. */
export type LazyProfile = ReadonlyMap<Digest, readonly number[]>

const ProfileSchema = v.object({
  version: v.literal(1),
  layers: v.array(
    v.object({
      index: v.custom<Digest>(isDigest, 'is not a digest'),
      spans: v.pipe(
        v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
        v.maxLength(MAX_PROFILE_SPANS),
      ),
    }),
  ),
})

/** Writes a profile. */
export function formatLazyProfile(profile: LazyProfile): Buffer {
  const layers = [...profile].map(([index, spans]) => ({ index, spans }))
  return Buffer.from(JSON.stringify({ version: 1, layers }))
}

/** Parses a profile. @throws DOCUMENT_INVALID */
export function parseLazyProfile(bytes: Uint8Array, what: string): LazyProfile {
  const { layers } = check(ProfileSchema, parseStrictJson(bytes, what), what)
  return new Map(layers.map(({ index, spans }) => [index, spans]))
}

/** Returns the spans of both, in the order of their first reads. */
export function uniteSpans(first: readonly number[], second: readonly number[]): readonly number[] {
  return [...new Set([...first, ...second])].slice(0, MAX_PROFILE_SPANS)
}
