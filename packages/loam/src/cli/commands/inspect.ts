import type { Command } from 'commander'
import { parsePlatform } from '../../image/index.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

export function addInspect(program: Command): void {
  addGlobalOptions(program.command('inspect <image-or-id>'))
    .description('show all that is known about an image or a container, as JSON')
    .option('--platform <os/arch[/variant]>', 'which one, where the image is here for several')
    .action(async (text: string, flags: GlobalOptions & { platform?: string }) => {
      await withSession(flags, async ({ loam, output }) => {
        const platform = flags.platform === undefined ? undefined : parsePlatform(flags.platform)
        const found = loam.inspect(text, platform)
        output.result(found, () => JSON.stringify(found, undefined, 2))
      })
    })
}
