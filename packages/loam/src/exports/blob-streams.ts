import { LoamError } from '../errors/index.ts'
import { type Descriptor, finishDigest, splitDigest, startDigest } from '../image/index.ts'

/** Passes a stream on, and reports the bytes of each chunk. */
export async function* counting(
  source: AsyncIterable<Buffer>,
  report: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    yield chunk
    report(chunk.length)
  }
}

/** Verifies a stream against its descriptor. The last bytes follow only after all of them were verified, so that a wrong blob is never complete. */
export async function* verified(
  stream: AsyncIterable<Buffer>,
  { digest, sizeBytes }: Descriptor,
): AsyncGenerator<Buffer> {
  const hash = startDigest(digest)
  let bytes = 0
  let held: Buffer | undefined
  for await (const chunk of stream) {
    hash.update(chunk)
    bytes += chunk.length
    if (held !== undefined) yield held
    held = Buffer.from(chunk)
  }
  if (bytes !== sizeBytes)
    throw new LoamError('SIZE_MISMATCH', `verify blob ${digest}: expected ${sizeBytes} bytes, got ${bytes}`)
  const actual = finishDigest(splitDigest(digest).algorithm, hash)
  if (actual !== digest)
    throw new LoamError('DIGEST_MISMATCH', `verify blob ${digest}: its digest is ${actual}`)
  if (held !== undefined) yield held
}
