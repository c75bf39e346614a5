import type { Command } from 'commander'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addUntag(program: Command, host: Host): void {
  addGlobalOptions(program.command('untag <name>'))
    .description('remove a name of an image; `loam prune` removes images without a name')
    .addOption(imageTypeOption())
    .action(async (name: string, flags: GlobalOptions & PullFlags) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const untagged = await loam.images.untag(name, toImageOptions(flags))
        output.result(untagged, () => untagged.name)
      })
    })
}
