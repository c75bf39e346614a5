/*
 * Docker's image manifest version 2, schema 1: a list of layers, the topmost first, each with the JSON that Docker's v1 format had:
 *   { "schemaVersion": 1, "name", "tag", "architecture", "fsLayers": [{"blobSum"}], "history": [{"v1Compatibility"}], "signatures": [] }
 * A signed one (`+prettyjws`) carries JWS signatures in its body; its digest is that of the body without them.
 * Source: distribution's manifest-v2-1.md; libtrust's "JSON Web Signature with pretty-printed content".
 */
import { createPublicKey, verify } from 'node:crypto'
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { type Digest, isDigest } from './digest.ts'
import { check } from './documents.ts'
import { parseStrictJson } from './json.ts'
import { isSchema1Type, plainType } from './media-types.ts'
import { parseV1Json, type V1Json } from './v1-json.ts'

/** A parsed schema 1 manifest: layers base first, without empty ones. */
export interface Schema1Manifest {
  /** The topmost JSON, which has the config of the whole image. */
  readonly top: V1Json
  readonly layers: readonly Digest[]
}

const ManifestSchema = v.object({
  schemaVersion: v.literal(1),
  name: v.pipe(v.string(), v.nonEmpty()),
  tag: v.string(),
  architecture: v.string(),
  fsLayers: v.pipe(
    v.array(v.object({ blobSum: v.custom<Digest>(isDigest, 'is no digest') })),
    v.minLength(1, 'names no layer'),
  ),
  history: v.pipe(v.array(v.object({ v1Compatibility: v.string() })), v.minLength(1, 'has no history')),
})
const SignedSchema = v.object({
  signatures: v.pipe(
    v.array(
      v.object({
        header: v.object({ alg: v.string(), jwk: v.optional(v.record(v.string(), v.unknown())) }),
        signature: v.string(),
        protected: v.string(),
      }),
    ),
    v.minLength(1),
  ),
})
const ProtectedSchema = v.object({
  formatLength: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  formatTail: v.string(),
})

/** Returns whether a document is a schema 1 manifest, by its type, or by its body if the type does not show it. */
export function isSchema1(bytes: Buffer, contentType: string | undefined): boolean {
  const stated = plainType(contentType) ?? ''
  if (isSchema1Type(stated)) return true
  if (stated !== '' && stated !== 'application/json' && stated !== 'text/plain') return false
  return /"schemaVersion"\s*:\s*1\s*[,}]/.test(bytes.subarray(0, 4096).toString('latin1'))
}

/**
 * Returns the bytes that the digest of a schema 1 manifest covers: without its signatures, which have to be valid.
 * @throws DOCUMENT_INVALID
 */
export function schema1Payload(bytes: Buffer, what: string): Buffer {
  const value = parseStrictJson(bytes, what)
  if (typeof value !== 'object' || value === null || !('signatures' in value)) return bytes
  const { signatures } = check(SignedSchema, value, what)
  const payloads = signatures.map((signature) => {
    const text = Buffer.from(signature.protected, 'base64url')
    const { formatLength, formatTail } = check(ProtectedSchema, parseStrictJson(text, what), what)
    if (formatLength > bytes.length) throw invalid(what, 'its signature is for a longer document')
    const payload = Buffer.concat([bytes.subarray(0, formatLength), Buffer.from(formatTail, 'base64url')])
    checkSignature(signature, payload, what)
    return payload
  })
  const [payload = bytes] = payloads
  if (payloads.some((other) => !other.equals(payload)))
    throw invalid(what, 'its signatures are for different documents')
  return payload
}

/** The key comes with the signature: it proves that the body is complete, and nothing about its author. */
function checkSignature(
  { header, signature, protected: head }: v.InferOutput<typeof SignedSchema>['signatures'][number],
  payload: Buffer,
  what: string,
): void {
  if (header.jwk === undefined) return
  let isRight: boolean
  try {
    const key = createPublicKey({ key: header.jwk, format: 'jwk' })
    const signed = Buffer.from(`${head}.${payload.toString('base64url')}`)
    const algorithm = `sha${header.alg.slice(2)}`
    isRight = verify(
      algorithm,
      signed,
      { key, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    )
  } catch (error) {
    throw new LoamError('DOCUMENT_INVALID', `verify ${what}: its signature cannot be read`, { cause: error })
  }
  if (!isRight) throw invalid(what, 'its signature is invalid')
}

/** Parses a schema 1 manifest, signed or not. @throws DOCUMENT_INVALID */
export function parseSchema1(bytes: Buffer, what: string): Schema1Manifest {
  const manifest = check(ManifestSchema, parseStrictJson(schema1Payload(bytes, what), what), what)
  if (manifest.history.length !== manifest.fsLayers.length) {
    throw invalid(
      what,
      `it has ${manifest.fsLayers.length} layers and a history of ${manifest.history.length}`,
    )
  }
  const history = manifest.history.map(({ v1Compatibility }, index) =>
    parseV1Json(Buffer.from(v1Compatibility), `${what}, history ${index}`),
  )
  const [top] = history
  if (top === undefined) throw invalid(what, 'it has no history')
  const seen = new Set<string | undefined>()
  const layers: Digest[] = []
  for (const [index, { blobSum }] of manifest.fsLayers.entries()) {
    const own = history[index]
    const below = history[index + 1]
    if (own === undefined) break
    // Docker has written the same layer several times in a row.
    if (own.id !== undefined && own.id === below?.id) continue
    if (own.id !== undefined && seen.has(own.id)) throw invalid(what, `layer ${own.id} occurs twice`)
    seen.add(own.id)
    if (!isParent(below, own))
      throw invalid(what, `layer ${own.id ?? index} does not have the next layer as its parent`)
    if (!own.isThrowaway) layers.push(blobSum)
  }
  return { top, layers: layers.toReversed() }
}

/** The order of the history counts; ids, if it has them, have to agree with it. */
function isParent(below: V1Json | undefined, own: V1Json): boolean {
  if (below === undefined) return own.parent === undefined
  return below.id === undefined ? own.parent === undefined : own.parent === below.id
}

function invalid(what: string, why: string): LoamError {
  return new LoamError('DOCUMENT_INVALID', `parse ${what}: ${why}`)
}
