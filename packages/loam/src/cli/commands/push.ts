import type { Command } from 'commander'
import type { PushEvent } from '../../images/index.ts'
import { shortDigest } from '../format.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly allPlatforms?: boolean
  readonly replaceIndex?: boolean
}

const ROUTES = {
  exists: 'already there',
  mounted: 'mounted from another repository',
  copied: 'copied from where it came',
  uploaded: 'uploaded',
  packed: 'packed anew and uploaded',
  'left out': 'left where its addresses say',
} as const

export function addPush(program: Command): void {
  addPullOptions(addGlobalOptions(program.command('push <image> [reference]')))
    .description('upload an image of the store to a registry, and print its digest there')
    .option('--all-platforms', 'fail rather than push one platform of an index alone')
    .option('--replace-index', 'let one platform take the place of an index under the tag')
    .addHelpText(
      'after',
      `
An image that nobody changed keeps its digest, and an index its platforms. --platform pushes one of them.

  loam push debian:12 registry.lan/debian:12
  loam push --platform linux/arm64 debian:12 registry.lan/debian:12-arm64`,
    )
    .action(async (image: string, to: string | undefined, flags: Flags) => {
      await withSession(flags, async ({ loam, output, signal }) => {
        const { allPlatforms, replaceIndex } = flags
        const onPush = (event: PushEvent) => {
          output.note(describePush(event))
        }
        const pushed = await loam.push(image, {
          ...toImageOptions(flags),
          to,
          allPlatforms,
          replaceIndex,
          signal,
          onPush,
        })
        output.result(pushed, () => pushed.digest)
      })
    })
}

/** Says what happens while an image is pushed, in one line. */
export function describePush(event: PushEvent): string {
  if (event.kind === 'digest') return `the digest changes: ${event.from} → ${event.to} (${event.reason})`
  return `blob ${shortDigest(event.digest)} ${ROUTES[event.route]}`
}
