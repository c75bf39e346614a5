import type { Command } from 'commander'
import { shortDigest } from '../format.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

export function addPush(program: Command): void {
  addPullOptions(addGlobalOptions(program.command('push <image> [reference]')))
    .description('upload an image of the store to a registry, and print its digest there')
    .action(async (image: string, to: string | undefined, flags: PullFlags & GlobalOptions) => {
      await withSession(flags, async ({ loam, output, signal }) => {
        const pushed = await loam.push(image, {
          ...toImageOptions(flags),
          to,
          signal,
          onLayer: ({ digest, isNew }) => {
            output.note(`layer ${shortDigest(digest)} ${isNew ? 'uploaded' : 'already there'}`)
          },
        })
        output.result(pushed, () => pushed.digest)
      })
    })
}
