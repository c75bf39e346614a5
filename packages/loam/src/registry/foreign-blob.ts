import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import type { Descriptor } from '../image/index.ts'
import type { OrderedBlob } from './endpoint-order.ts'
import type { FileClient } from './file-client.ts'
import { type FindHostRules, resolveAddress } from './redirects.ts'

/** A manifest may name any number of addresses. */
const MAX_ADDRESSES = 10

export interface ForeignBlobOptions {
  readonly files: FileClient
  /** The registry that names the addresses. */
  readonly namedBy: URL
  readonly rulesOf: FindHostRules
  readonly wanted: OrderedBlob
}

/**
 * Streams a layer that must not be distributed: from its registry, or from the addresses in its manifest if the registry lacks it. Those follow the rules of
 * redirects, and get no credentials. The consumer verifies size and digest. @throws the failure of the registry, REGISTRY_* with those of all addresses
 */
export async function* streamForeign(
  fromRegistry: () => AsyncIterable<Buffer>,
  { urls = [] }: Descriptor,
  options: ForeignBlobOptions,
): AsyncGenerator<Buffer> {
  const { attempted } = options.wanted
  let isSent = false
  const marked = async function* (stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of stream) {
      isSent = true
      yield chunk
    }
  }
  try {
    yield* marked(fromRegistry())
    return
  } catch (error) {
    if (isSent || !isLoamError(error, 'IMAGE_NOT_FOUND')) throw error
  }
  const failures: LoamError[] = []
  for (const address of urls.slice(0, MAX_ADDRESSES)) {
    try {
      yield* marked(streamFrom(address, options))
      return
    } catch (error) {
      const failure = toLoamError(error, attempted, options.wanted.signal)
      if (isSent || failure.code === 'CANCELED') throw failure
      failures.push(failure)
    }
  }
  throw notAnywhere(attempted, urls, failures)
}

async function* streamFrom(
  address: string,
  { files, namedBy, rulesOf, wanted }: ForeignBlobOptions,
): AsyncGenerator<Buffer> {
  const { attempted, signal } = wanted
  if (!URL.canParse(address))
    throw new LoamError('REGISTRY_RESPONSE', `${attempted}: its manifest names an invalid address`)
  const url = resolveAddress(address, namedBy, { attempted, rulesOf })
  yield* files.stream(url, signal, { namedBy, wanted })
}

function notAnywhere(attempted: string, urls: readonly string[], failures: readonly LoamError[]): LoamError {
  const hosts = new Set(urls.flatMap((address) => (URL.canParse(address) ? new URL(address).host : [])))
  const last = failures.at(-1)
  // That of an address that Loam refuses says how to allow it.
  const refused = failures.find(({ code, hint }) => code === 'REGISTRY_RESPONSE' && hint !== undefined)
  return new LoamError(
    last?.code ?? 'REGISTRY_RESPONSE',
    `${attempted}: its registry lacks this layer, which must not be distributed, and its own addresses failed: ${failures.map(({ message }) => message).join('; ')}`,
    {
      cause: last,
      hint: refused?.hint ?? `The layer is at ${[...hosts].join(', ')}: check the way there, and proxies.`,
    },
  )
}
