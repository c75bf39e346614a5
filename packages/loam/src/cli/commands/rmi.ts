import type { Command } from 'commander'
import { isLoamError, type LoamError } from '../../errors/index.ts'
import { actOnEach, throwAll } from '../for-each.ts'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions, PullFlags {
  readonly force?: boolean
}

export function addRmi(program: Command, host: Host): void {
  addGlobalOptions(program.command('rmi <image...>'))
    .description('remove images by name or digest; `loam prune` then frees their unused layers')
    .addOption(imageTypeOption())
    .option(
      '-f, --force',
      'an image that does not exist is not an error; one that is in use stays all the same',
    )
    .action(async (names: readonly string[], flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const options = toImageOptions(flags)
        const { results, failures } = await actOnEach(names, signal, async (name) => ({
          name,
          removed: await loam.images.remove(name, options),
        }))
        if (results.length > 0)
          output.result(results, () => results.map(({ name, removed }) => removed ?? name))
        const isForgiven = (error: unknown): error is LoamError =>
          flags.force === true && isLoamError(error, 'IMAGE_NOT_FOUND')
        for (const error of failures.filter(isForgiven)) output.note(error.message)
        throwAll(failures.filter((error) => !isForgiven(error)))
      })
    })
}
