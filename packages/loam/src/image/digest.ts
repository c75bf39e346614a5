import { createHash, type Hash } from 'node:crypto'
import { LoamError } from '../errors/index.ts'

declare const brand: unique symbol

/** A validated digest: `sha256:` and 64, or `sha512:` and 128 lower-case hex digits. Safe as a path and URL part. */
export type Digest = string & {
  /** Set only by the check. */
  readonly [brand]: 'Digest'
}
/** The digest of a layer's uncompressed tar stream (OCI image-spec config.md, `rootfs.diff_ids`). */
export type DiffId = Digest & {
  /** Set only by the check. */
  readonly diffId: true
}
/** Identifies a stack of layers (OCI image-spec config.md, "Layer ChainID"). */
export type ChainId = Digest & {
  /** Set only by the check. */
  readonly chainId: true
}
/** The hash functions that an image may be addressed by. */
export type DigestAlgorithm = 'sha256' | 'sha512'

// `$` without the m flag matches only at the very end in JavaScript, unlike in many other languages.
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** Returns whether a text is a digest that Loam can check. */
export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && DIGEST.test(text)
}

/** Returns the text as a digest. @throws DIGEST_INVALID */
export function parseDigest(text: unknown, where = 'digest'): Digest {
  if (isDigest(text)) return text
  const shown = typeof text === 'string' ? JSON.stringify(text.slice(0, 200)) : typeof text
  throw new LoamError('DIGEST_INVALID', `read ${where}: ${shown} is not a valid digest`, {
    hint: 'A digest is sha256: and 64, or sha512: and 128 lower-case hex digits.',
  })
}

/** Returns the text as a diffID. @throws DIGEST_INVALID */
export function parseDiffId(text: unknown, where = 'diffID'): DiffId {
  return parseDigest(text, where) as DiffId
}

/** Returns the text as a chainID. @throws DIGEST_INVALID */
export function parseChainId(text: unknown, where = 'chainID'): ChainId {
  return parseDigest(text, where) as ChainId
}

/** Returns the algorithm and the hex digits of a digest. */
export function splitDigest(digest: Digest): { algorithm: DigestAlgorithm; hex: string } {
  const [algorithm, hex = ''] = digest.split(':')
  return { algorithm: algorithm === 'sha512' ? 'sha512' : 'sha256', hex }
}

/** Returns the digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return finishDigest(algorithm, createHash(algorithm).update(bytes))
}

/** Starts a hash with the algorithm of `digest`. */
export function startDigest(digest: Digest): Hash {
  return createHash(splitDigest(digest).algorithm)
}

/** Ends a hash and returns it as a digest. */
export function finishDigest(algorithm: DigestAlgorithm, hash: Hash): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest
}

/**
 * Returns the chainIDs of a stack of layers, base first: the i-th names the first i + 1 layers together.
 * Source: OCI image-spec config.md.
 */
export function chainIds(diffIds: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = []
  for (const diffId of diffIds) {
    const below = chain.at(-1)
    const own = below === undefined ? diffId : digestOf(Buffer.from(`${below} ${diffId}`))
    chain.push(own as ChainId)
  }
  return chain
}
