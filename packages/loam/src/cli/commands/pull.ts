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
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addPull(program: Command, host: Host): void {
  addLazyOptions(addPullOptions(addGlobalOptions(program.command('pull <image>'))))
    .description('pull an image into the store and print its digest')
    .addHelpText(
      'after',
      `
IMAGE is a reference, or a source in the notation of skopeo and podman:
  loam pull debian:12
  loam pull --platform linux/arm64 ghcr.io/owner/app@sha256:…
  loam pull --insecure registry.lan:5000 registry.lan:5000/app:1
  loam pull oci:./layout:tag
  loam pull docker-archive:app.tar
  loam pull aci:app.aci
  loam pull appc://example.com/app,version=1.0,arch=amd64`,
    )
    .action(async (image: string, flags: PullFlags & LazyFlags & GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const pulled = await loam.pull(image, {
          ...toImageOptions(flags),
          ...toLazyOptions(flags),
          signal,
          onEvent: progress.onEvent,
        })
        progress.summarize('fetched')
        output.result({ name: pulled.name, digest: pulled.digest, image: pulled.image }, () => pulled.digest)
      })
    })
}
