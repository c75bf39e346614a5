import type { Command } from 'commander'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly allPlatforms?: boolean
  readonly replaceIndex?: boolean
  readonly index?: boolean
}

export function addPush(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('push <image> [reference]')))
    .description('push an image from the store to a registry and print its digest there')
    .option('--all-platforms', 'fail unless all platforms of an index can be pushed')
    .option('--replace-index', 'allow a single platform to replace an index under the tag')
    .option('--index', 'also make lazy indexes of its layers, and push them beside it')
    .addHelpText(
      'after',
      `
An unmodified image keeps its digest, and an index keeps its platforms. --platform pushes one of them.

  loam push debian:12 registry.lan/debian:12
  loam push --platform linux/arm64 debian:12 registry.lan/debian:12-arm64`,
    )
    .action(async (image: string, to: string | undefined, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const { allPlatforms, replaceIndex, index } = flags
        const progress = new PullProgress(output)
        const pushed = await loam.push(image, {
          ...toImageOptions(flags),
          to,
          allPlatforms,
          replaceIndex,
          index,
          signal,
          onPush: progress.onEvent,
          onEvent: progress.onEvent,
        })
        progress.summarize('pushed')
        output.result(pushed, () => pushed.digest)
      })
    })
}
