import { type Command, Option } from 'commander'
import { LoamError } from '../../errors/index.ts'
import { forEach } from '../for-each.ts'
import type { Host } from '../host.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions {
  readonly force?: boolean
  readonly ignore?: boolean
}

export function addRm(program: Command, host: Host): void {
  addGlobalOptions(program.command('rm <container...>'))
    .description('remove containers that do not run; `loam destroy` also removes those that do')
    .option('-f, --force', 'also kill their processes; a container that does not exist is not an error')
    .option('-i, --ignore', 'a container that does not exist is not an error')
    .addOption(
      new Option('-v, --volumes', 'accepted: image volumes always end with their container').hideHelp(),
    )
    .addHelpText('after', '\n  loam rm web\n  loam rm -f web database')
    .action(async (ids: readonly string[], flags: Flags) => {
      const { force = false } = flags
      await withSession(host, flags, async ({ loam, output, signal }) => {
        await forEach(ids, { output, signal, ignore: flags.ignore ?? force }, async (id) => {
          if (force) {
            // Also one whose state cannot be read.
            if (await loam.destroy(id, { signal })) return
            throw new LoamError('CONTAINER_NOT_FOUND', `remove ${id}: no such container`)
          }
          const { status } = await loam.containers.processes.find(id)
          if (status !== 'exited' && status !== 'none') {
            throw new LoamError('CONTAINER_RUNNING', `remove ${id}: its process is ${status}`, {
              // A process that is paused does not end by itself.
              hint:
                status === 'paused'
                  ? 'Add --force, which kills it.'
                  : `Stop it first: loam stop ${id}; or add --force.`,
            })
          }
          await loam.destroy(id, { signal })
        })
      })
    })
}
