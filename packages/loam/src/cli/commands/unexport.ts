import type { Command } from 'commander'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addUnexport(program: Command, host: Host): void {
  addGlobalOptions(program.command('unexport <directory> [image]'))
    .description('remove an image, or all, from a directory of `loam export --format containers-storage`')
    .action(async (directory: string, image: string | undefined, flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const removed = await loam.containers.unexport(directory, { image })
        output.result(removed, () => removed.names.join('\n'))
      })
    })
}
