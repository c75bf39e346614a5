import type { Command } from 'commander'
import {
  addLazyOptions,
  addPullOptions,
  type LazyFlags,
  type PullFlags,
  toImageOptions,
  toLazyOptions,
} from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { throwIfAborted } from '../../errors/index.ts'
import type { PulledImage } from '../../images/index.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends PullFlags, LazyFlags, GlobalOptions {
  readonly allTags?: boolean
}

export function addPull(program: Command, host: Host): void {
  addLazyOptions(addPullOptions(addGlobalOptions(program.command('pull <image...>'))))
    .description('pull images into the store and print their digests')
    .option('--all-tags', 'pull all tags of each repository')
    .addHelpText(
      'after',
      `
IMAGE is a reference, or a source in the notation of skopeo and podman:
  loam pull debian:12 busybox
  loam pull --platform linux/arm64 ghcr.io/owner/app@sha256:…
  loam pull --insecure registry.lan:5000 registry.lan:5000/app:1
  loam pull oci:./layout:tag
  loam pull docker-archive:app.tar
  loam pull aci:app.aci
  loam pull appc://example.com/app,version=1.0,arch=amd64`,
    )
    .action(async (images: readonly string[], flags: Flags) => {
      await withSession(host, flags, async (session) => {
        const wanted = flags.allTags === true ? await withAllTags(session, images, flags) : images
        const [only, other] = wanted
        if (only !== undefined && other === undefined) {
          const pulled = await pullOne(session, only, flags)
          session.output.result(pulled, () => pulled.digest)
          return
        }
        await pullAll(session, wanted, flags)
      })
    })
}

/** As in podman, an image that cannot be pulled does not keep the others from being pulled. */
async function pullAll(session: Session, images: readonly string[], flags: Flags): Promise<void> {
  const { output, host, signal } = session
  const pulled: PulledImage[] = []
  for (const image of images) {
    try {
      const one = await pullOne(session, image, flags)
      pulled.push(one)
      if (!output.json) output.result(one, () => one.digest)
    } catch (error) {
      throwIfAborted(signal, `pull ${image}`)
      output.error(error)
      host.exitStatus = 1
    }
  }
  if (output.json) output.document(pulled)
}

async function pullOne({ loam, output, signal }: Session, image: string, flags: Flags): Promise<PulledImage> {
  const progress = new PullProgress(output)
  const {
    name,
    digest,
    image: record,
  } = await loam.pull(image, {
    ...toImageOptions(flags),
    ...toLazyOptions(flags),
    signal,
    onEvent: progress.onEvent,
  })
  progress.summarize('fetched')
  return { name, digest, image: record }
}

async function withAllTags(
  { loam, signal }: Session,
  repositories: readonly string[],
  flags: Flags,
): Promise<string[]> {
  const found: string[] = []
  for (const repository of repositories) {
    const { repository: path, tags } = await loam.images.tags(repository, {
      ...toImageOptions(flags),
      signal,
    })
    // Signatures and other artifacts of images are kept under such tags.
    found.push(...tags.filter((tag) => !/^sha256-[0-9a-f]{64}/.test(tag)).map((tag) => `${path}:${tag}`))
  }
  return found
}
