import type { Command } from 'commander'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addInspect(program: Command, host: Host): void {
  addGlobalOptions(program.command('inspect <image-or-id>'))
    .description('show details of an image or a container as JSON')
    .option('--platform <os/arch[/variant]>', 'platform to show, when the store has the image for several')
    .addOption(imageTypeOption())
    .action(async (text: string, flags: GlobalOptions & PullFlags) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const container = await loam.containers.find(text)
        output.document(
          container === undefined
            ? { kind: 'image', ...(await loam.images.inspect(text, toImageOptions(flags))) }
            : { kind: 'container', container },
        )
      })
    })
}
