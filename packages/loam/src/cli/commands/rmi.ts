import type { Command } from 'commander'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

export function addRmi(program: Command): void {
  addGlobalOptions(program.command('rmi <image...>'))
    .description('remove images by name or digest; `loam prune` then frees what nothing else needs')
    .action(async (names: readonly string[], flags: GlobalOptions) => {
      await withSession(flags, async ({ loam, output }) => {
        const results = names.map((name) => ({ name, removed: loam.removeImage(name) }))
        output.result(results, () => results.map(({ name, removed }) => removed ?? name))
      })
    })
}
