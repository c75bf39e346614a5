import type { Command } from 'commander'
import { actOnEach, throwAll } from '../for-each.ts'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addRmi(program: Command, host: Host): void {
  addGlobalOptions(program.command('rmi <image...>'))
    .description('remove images by name or digest; `loam prune` then frees their unused layers')
    .addOption(imageTypeOption())
    .action(async (names: readonly string[], flags: GlobalOptions & PullFlags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const options = toImageOptions(flags)
        const { results, failures } = await actOnEach(names, signal, async (name) => ({
          name,
          removed: await loam.images.remove(name, options),
        }))
        if (results.length > 0)
          output.result(results, () => results.map(({ name, removed }) => removed ?? name))
        throwAll(failures)
      })
    })
}
