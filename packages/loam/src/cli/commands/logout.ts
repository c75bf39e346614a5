import type { Command } from 'commander'
import { LoamError } from '../../errors/index.ts'
import { logOut } from '../../images/index.ts'
import { parseLoginTarget } from '../../registry/index.ts'
import { addGlobalOptions, type GlobalOptions, outputOf } from '../session.ts'
import { withLogin } from './login.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions {
  readonly authfile?: string
  readonly all?: boolean
}

export function addLogout(program: Command, host: Host): void {
  addGlobalOptions(program.command('logout [registry]'))
    .description('remove the login to a registry from the files and helpers where loam finds it')
    .option('--authfile <file>', 'remove it from this file only')
    .option('-a, --all', 'remove all logins')
    .addHelpText(
      'after',
      `
  loam logout ghcr.io
  loam logout                 Docker Hub
  loam logout --all`,
    )
    .action(async (registry: string | undefined, flags: Flags) => {
      host.requireOwnProcess()
      if (flags.all === true && registry !== undefined)
        throw new LoamError('USAGE', 'log out: give a registry or --all, and not both')
      const output = outputOf(host, flags)
      await withLogin(host, flags, async (context) => {
        const target = flags.all === true ? ('all' as const) : parseLoginTarget(registry ?? 'docker.io')
        const removed = await logOut(context, target)
        const what = target === 'all' ? 'any registry' : target.registry
        if (removed.length === 0) output.note(`not logged in to ${what}`)
        output.result(removed, () =>
          removed.map(
            ({ file, helper }) =>
              `removed from ${helper === undefined ? file : `${helper}, which ${file} names`}`,
          ),
        )
      })
    })
}
