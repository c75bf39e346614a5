import type { Command } from 'commander'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

type Flags = FetchFlags & GlobalOptions

export function addTags(program: Command, host: Host): void {
  addFetchOptions(addGlobalOptions(program.command('tags <repository>')))
    .description('list the tags of a repository in its registry')
    .addHelpText(
      'after',
      `
  loam tags debian
  loam tags registry.lan:5000/team/app
  loam tags ghcr.io/owner/app | sort -V | tail -1     the newest version`,
    )
    .action(async (repository: string, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const found = await loam.images.tags(repository, { ...toFetchOptions(flags), signal })
        output.result(found, () => found.tags)
      })
    })
}
