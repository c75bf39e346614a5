import type { Command } from 'commander'
import { containerInfoOption, readContainerInfo, requireImage } from '../container-info.ts'
import {
  addLazyOptions,
  addPullOptions,
  type LazyFlags,
  type PullFlags,
  toImageOptions,
  toLazyOptions,
} from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { parseCommandInfo } from '../../runtime/index.ts'
import { addContainerFlags, type ContainerFlags, toContainerOptions } from '../container-flags.ts'
import { checkTerminal, terminalSizeOf } from '../terminal-option.ts'
import { addRunOptions, toRunOptions } from '../run-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import {
  addUserNamespaceOptions,
  toUserNamespace,
  type UserNamespaceFlags,
} from '../user-namespace-options.ts'
import type { Host } from '../host.ts'

interface Flags extends PullFlags, LazyFlags, GlobalOptions, UserNamespaceFlags, ContainerFlags {
  readonly tty?: boolean
  readonly commandInfo?: string
  readonly containerInfo?: string
  readonly hostname?: string
}

export function addRun(program: Command, host: Host): void {
  const run = program.command('run [image] [command...]').helpOption('--help', 'show help for a command')
  addUserNamespaceOptions(
    addContainerFlags(addRunOptions(addLazyOptions(addPullOptions(addGlobalOptions(run))))),
  )
    .description('run a process in a new root filesystem created from an image')
    .passThroughOptions()
    .option(
      '--command-info <json>',
      'CommandInfo of Mesos as JSON: {"shell", "value", "arguments", "environment", "user"}; with a value, arguments is the full argv, including argv[0]',
    )
    .addOption(containerInfoOption())
    .option(
      '-t, --tty',
      'allocate a terminal (default: if the standard streams are one, and not with --detach)',
    )
    .addHelpText(
      'after',
      `
  loam run busybox -- echo hello
  loam run -it --rm -e TERM=dumb -u www-data debian:12 id
  loam run -v $PWD:/work:ro -w /work alpine ls
  loam run -dit --name box debian:12
  loam run -d --name web -m 512m --cpus 0.5 nginx && loam logs -f web
  loam run --mount type=image,source=busybox,target=/data debian:12 ls /data
  loam run --network host alpine wget -O - http://localhost:8080

The process is confined as other runtimes do it: its processes, mounts, IPC, host name, cgroups and network are
its own, with a loopback device alone; it has the capabilities of podman's containers and the system calls of
Docker's default profile, at most 2048 processes, no devices of this machine, and no way to more rights (setuid
programs give none). Without root it is you, in a user namespace. The options under Confinement change that;
there is no --privileged.

Statuses: the process's own; 128 and the signal's number when a signal ended it; 127 when the image
has no such program, 126 when it cannot be executed, 125 when Loam or the runtime failed before that.`,
    )
    .action(async (image: string | undefined, command: readonly string[], flags: Flags) => {
      const container = readContainerInfo(flags.containerInfo, host.cwd)
      // With a container from a file, all words are the command.
      const words = container === undefined || image === undefined ? command : [image, ...command]
      const asked = requireImage(container === undefined ? image : container.image)
      const own = toContainerOptions(flags, host)
      await withSession(host, flags, async ({ loam, output, signal, letSignalsPass }) => {
        const progress = new PullProgress(output, 'create the root filesystem')
        let started = ''
        host.exitStatus = await loam.run(asked, {
          ...toImageOptions(flags),
          ...toLazyOptions(flags),
          ...toRunOptions({ ...flags }),
          ...own,
          userNamespace: toUserNamespace(flags),
          command: words[0] === '--' ? words.slice(1) : words,
          commandInfo: flags.commandInfo === undefined ? undefined : parseCommandInfo(flags.commandInfo),
          volumes: container?.volumes,
          hostMounts: [...(container?.hostMounts ?? []), ...(own.hostMounts ?? [])],
          hostname: flags.hostname ?? container?.hostname,
          terminal: terminalOf(flags, host),
          terminalSize: terminalSizeOf(host),
          signal,
          onEvent: progress.onEvent,
          onStart: (id) => {
            started = id
            letSignalsPass()
          },
          starter: host.starter,
        })
        if (flags.detach === true) output.result({ id: started }, () => started)
      })
    })
}

/** Returns whether the process gets a terminal: if it was asked for, and otherwise if there is one. One in the background has its own. @throws USAGE */
function terminalOf({ tty, detach }: Flags, { stdin, stdout }: Host): boolean {
  if (detach === true) return tty === true
  checkTerminal(tty, stdin)
  return tty ?? (stdin.isTerminal && stdout.isTerminal)
}
