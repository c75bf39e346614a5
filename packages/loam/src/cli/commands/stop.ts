import { constants } from 'node:os'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Host } from '../host.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { forEach } from '../for-each.ts'
import { completes } from '../completion/values.ts'

const SIGNALS = Object.keys(constants.signals)

interface StopFlags extends GlobalOptions {
  readonly timeout?: number
  readonly time?: number
  readonly ignore?: boolean
}

/** Commands that start and end the processes of containers. */
export function addStop(program: Command, host: Host): void {
  addGlobalOptions(program.command('stop <container...>'))
    .description('stop the processes of containers, and print the containers that were stopped')
    .addOption(new Option('--time <seconds>', 'the same as --timeout').argParser(parseSeconds).hideHelp())
    .option(
      '-t, --timeout <seconds>',
      'time until the process is killed, 0 to kill it at once (default: 10)',
      parseSeconds,
    )
    .option('-i, --ignore', 'a container that does not exist is not an error')
    .addHelpText(
      'after',
      `
  loam stop web
  loam stop -t 60 database

The process gets the signal that its image names, or SIGTERM, and SIGKILL when the time is over. The container stays
until \`loam rm\`, unless it was started with --rm.`,
    )
    .action(async (ids: readonly string[], flags: StopFlags) => {
      const seconds = flags.timeout ?? flags.time
      const timeoutMs = seconds === undefined ? undefined : seconds * 1000
      await withSession(host, flags, async ({ loam, output, signal }) => {
        await forEach(ids, { output, signal, ignore: flags.ignore ?? false }, async (id) => {
          if (!(await loam.containers.processes.stop(id, { timeoutMs, signal })))
            output.note(`container ${id} does not run`)
        })
      })
    })
}

export function addKill(program: Command, host: Host): void {
  addGlobalOptions(program.command('kill <container...>'))
    .description('send a signal to the first process of containers')
    .addOption(
      completes(
        new Option('-s, --signal <signal>', 'name or number of the signal (default: SIGKILL)'),
        (typed) => ({ words: typed.startsWith('SIG') ? SIGNALS : SIGNALS.map((name) => name.slice(3)) }),
      ),
    )
    .addHelpText('after', '\n  loam kill web\n  loam kill -s HUP web\n  loam kill --signal SIGUSR1 web')
    .action(async (ids: readonly string[], flags: GlobalOptions & { signal?: string }) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        await forEach(ids, { output, signal }, async (id) => {
          await loam.containers.processes.kill(id, flags.signal)
        })
      })
    })
}

export function addStart(program: Command, host: Host): void {
  addGlobalOptions(program.command('start <container...>'))
    .description('start the processes of detached containers again')
    .addHelpText(
      'after',
      `
  loam start web

The process has the files, the options and the log of its last run. After a restart of the machine nothing is left to
start: \`loam run --detach\` creates a new container.`,
    )
    .action(async (ids: readonly string[], flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        await forEach(ids, { output, signal }, async (id) => {
          await loam.containers.processes.start(id, host.starter)
        })
      })
    })
}

function parseSeconds(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('Give a number of seconds.')
  return Number(text)
}
