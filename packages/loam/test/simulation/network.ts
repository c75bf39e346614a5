import type { Machine } from './machine.ts'
import type { BuiltImage } from '../../src/testing/index.ts'
import type { ImageSource } from '../../src/sources/index.ts'
import { LoamError } from '../../src/errors/index.ts'
import { parseReference, storedReference } from '../../src/image/index.ts'
import { registryLocation } from '../../src/policy/index.ts'

/** A registry that fails at a given rate. */
export class Network {
  /** The image that each name refers to now. */
  readonly tags = new Map<string, BuiltImage>()
  readonly #blobs = new Map<string, Buffer>()
  readonly #machine: Machine
  /** Chance that an answer fails; 1: the registry is down. */
  trouble = 0
  /** Requested blobs. */
  readonly asked: string[] = []

  constructor(machine: Machine, images: readonly BuiltImage[]) {
    this.#machine = machine
    for (const { config, layers, manifest } of images)
      for (const { digest, bytes } of [config, manifest, ...layers]) this.#blobs.set(digest, bytes)
  }

  source(name: string): ImageSource {
    return {
      name: storedReference(name),
      asked: { locations: [registryLocation(parseReference(name))], pin: undefined },
      aliases: [],
      isRemote: true,
      isConverted: false,
      resolve: async () => {
        await this.#answer()
        const image = this.tags.get(name)
        if (image === undefined) throw new LoamError('IMAGE_NOT_FOUND', `resolve ${name}: it is not there`)
        return {
          bytes: image.manifest.bytes,
          mediaType: image.mediaType,
          digest: image.manifest.digest,
        }
      },
      getDocument: async ({ digest }) => {
        await this.#answer()
        return this.#find(digest)
      },
      openBlob: (descriptor) => this.#stream(descriptor.digest),
    }
  }

  async *#stream(digest: string): AsyncGenerator<Buffer> {
    const { random } = this.#machine
    this.asked.push(digest)
    await this.#answer()
    const bytes = this.#find(digest)
    const way = random.next() < this.trouble ? random.below(3) : 3
    const end = way === 0 ? random.below(bytes.length) : bytes.length
    const wrong = way === 1 ? random.below(bytes.length) : -1
    for (let at = 0; at < end; ) {
      const next = Math.min(end, at + 1 + random.below(3000))
      const chunk = Buffer.from(bytes.subarray(at, next))
      if (wrong >= at && wrong < next) chunk[wrong - at] = (chunk[wrong - at] ?? 0) ^ 1
      yield chunk
      at = next
      await this.#machine.turn()
      if (way === 2 && at > end / 2) throw new LoamError('REGISTRY_STALLED', 'nothing comes any more')
    }
  }

  async #answer(): Promise<void> {
    await this.#machine.turn()
    if (this.#machine.random.next() < this.trouble)
      throw new LoamError('REGISTRY_UNREACHABLE', 'nobody answers')
  }

  #find(digest: string): Buffer {
    const bytes = this.#blobs.get(digest)
    if (bytes === undefined) throw new LoamError('IMAGE_NOT_FOUND', `get ${digest}: it is not there`)
    return Buffer.from(bytes)
  }
}
