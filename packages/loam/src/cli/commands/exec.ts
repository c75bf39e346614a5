import type { Command } from 'commander'
import { LoamError } from '../../errors/index.ts'
import type { Host } from '../host.ts'
import { repeated } from '../image-options.ts'
import { readEnvFiles, envFileOption } from '../env-file.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { checkTerminal, terminalSizeOf } from '../terminal-option.ts'

interface Flags extends GlobalOptions {
  readonly env?: readonly string[]
  readonly envFile?: readonly string[]
  readonly user?: string
  readonly workdir?: string
  readonly tty?: boolean
  readonly detach?: boolean
}

export function addExec(program: Command, host: Host): void {
  addGlobalOptions(program.command('exec <container> <command...>'))
    .description('run a further process in a running container')
    .passThroughOptions()
    .option('-d, --detach', 'run the process in the background, without its output')
    .option('-i, --interactive', 'accepted: the process always has the standard input of `loam exec`')
    .option('-t, --tty', 'allocate a terminal (default: if the standard streams are one)')
    .addOption(
      repeated(
        '-e, --env <key[=value]>',
        'environment variable; KEY alone passes on the current value; repeatable',
      ),
    )
    .addOption(envFileOption())
    .option('-u, --user <user[:group]>', "user name or number (default: that of the container's process)")
    .option('-w, --workdir <dir>', "working directory (default: that of the container's process)")
    .addHelpText(
      'after',
      `
  loam exec web ps
  loam exec -it -u root web sh
  loam exec -d web sh -c 'sleep 60; kill -HUP 1'

The process is confined as the container's first one. Statuses are those of \`loam run\`.`,
    )
    .action(async (container: string, command: readonly string[], flags: Flags) => {
      const { env = [], envFile = [], tty, user, workdir, detach } = flags
      if (detach === true && tty === true) {
        throw new LoamError('USAGE', 'exec --detach --tty: a process in the background has no terminal', {
          hint: 'Leave out -t, or -d.',
        })
      }
      checkTerminal(tty, host.stdin)
      const variables = [...readEnvFiles(envFile, host), ...env]
      await withSession(host, flags, async ({ loam, letSignalsPass }) => {
        host.exitStatus = await loam.containers.processes.exec(
          container,
          command[0] === '--' ? command.slice(1) : command,
          {
            env: variables,
            user,
            workingDir: workdir,
            detach,
            terminal: detach !== true && (tty ?? (host.stdin.isTerminal && host.stdout.isTerminal)),
            terminalSize: terminalSizeOf(host),
            onStart: letSignalsPass,
            starter: host.starter,
          },
        )
      })
    })
}
