import type { Command } from 'commander'
import { actOnEach, throwAll } from '../for-each.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addDestroy(program: Command, host: Host): void {
  addGlobalOptions(program.command('destroy <id...>'))
    .description('remove containers and their root filesystems, nested containers first')
    .addHelpText(
      'after',
      '\n  loam destroy web\n  loam destroy web/sidecar\n\nDestroying a container that does not exist is not an error.',
    )
    .action(async (ids: readonly string[], flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const { results, failures } = await actOnEach(ids, signal, async (id) => ({
          id,
          destroyed: await loam.destroy(id, { signal }),
        }))
        if (results.length > 0)
          output.result(results, () => results.filter(({ destroyed }) => destroyed).map(({ id }) => id))
        for (const { id, destroyed } of results) if (!destroyed) output.note(`container ${id} does not exist`)
        throwAll(failures)
      })
    })
}
