import type { Command } from 'commander'
import { CONTAINER_INFO, CONTAINER_INFO_HELP, readContainerInfo, requireImage } from '../container-info.ts'
import { addPullOptions, type PullFlags, repeated, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { parseCommandInfo } from '../../runtime/index.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly id?: string
  readonly backend?: string
  readonly readOnly?: boolean
  readonly pull?: boolean
  readonly keep?: boolean
  readonly env?: readonly string[]
  readonly workdir?: string
  readonly user?: string
  readonly mount?: readonly string[]
  readonly tty?: boolean
  readonly entrypoint?: string
  readonly shell?: string
  readonly commandInfo?: string
  readonly containerInfo?: string
}

export function addRun(program: Command): void {
  addPullOptions(addGlobalOptions(program.command('run [image] [command...]')))
    .description('run a process in a new root filesystem of an image')
    .passThroughOptions()
    .option('--id <id>', 'container to make (default: a new one)')
    .option('--backend <name>', 'erofs, overlay, copy or bind (default: the best that works here)')
    .option('--read-only', 'the process may not write to its root filesystem')
    .option('--pull', 'ask the registry what the name stands for now')
    .option('--keep', 'keep the container afterwards')
    .addOption(
      repeated(
        '--env <key[=value]>',
        'environment variable; a key alone has its value here; may be repeated',
      ),
    )
    .option('--workdir <dir>', "working directory (default: the image's)")
    .option('--user <user[:group]>', "user by name or number (default: the image's)")
    .addOption(
      repeated(
        '--mount <spec>',
        'type=bind,source=DIR,target=DIR[,readonly], type=tmpfs,target=DIR or type=image,source=IMAGE,target=DIR[,readonly]; may be repeated',
      ),
    )
    .option('--entrypoint <program>', "program instead of the image's entrypoint; '' for none")
    .option('--shell <line>', 'line for /bin/sh -c, instead of a command')
    .option(
      '--command-info <json>',
      'command as a framework of Mesos gives it: {"shell", "value", "arguments", "environment", "user"}; beside a value the arguments are argv, its first one included',
    )
    .option(CONTAINER_INFO, CONTAINER_INFO_HELP)
    .option('-t, --tty', 'give the process a terminal (default: when the standard streams are one)')
    .addHelpText(
      'after',
      `
  loam run busybox -- echo hello
  loam run --env TERM=dumb --user nobody debian:12 id
  loam run --mount type=bind,source=$PWD,target=/work,readonly alpine ls /work
  loam run --mount type=image,source=busybox,target=/data debian:12 ls /data

The process has the network of this machine and the usual capabilities of a container. Its processes,
mounts, IPC and host name are its own; it has no user namespace and no seccomp filter.

Statuses: the process's own; 128 and the signal's number when a signal ended it; 127 when the image
has no such program, 126 when it cannot be executed, 125 when Loam or the runtime failed before that.`,
    )
    .action(async (image: string | undefined, command: readonly string[], flags: Flags) => {
      const container = readContainerInfo(flags.containerInfo)
      // The words after a container that a file describes are all a command.
      const words = container === undefined || image === undefined ? command : [image, ...command]
      const asked = requireImage(container === undefined ? image : container.image)
      await withSession(flags, async ({ loam, output, signal, letSignalsPass }) => {
        const progress = new PullProgress(output)
        process.exitCode = await loam.run(asked, {
          ...toImageOptions(flags),
          command: words[0] === '--' ? words.slice(1) : words,
          entrypoint: flags.entrypoint,
          shell: flags.shell,
          commandInfo: flags.commandInfo === undefined ? undefined : parseCommandInfo(flags.commandInfo),
          id: flags.id,
          backend: flags.backend,
          isReadOnly: flags.readOnly,
          refresh: flags.pull,
          keep: flags.keep,
          env: flags.env,
          workingDir: flags.workdir,
          user: flags.user,
          mounts: flags.mount,
          volumes: container?.volumes,
          hostMounts: container?.hostMounts,
          hostname: container?.hostname,
          terminal: flags.tty ?? (process.stdin.isTTY && process.stdout.isTTY),
          signal,
          onEvent: progress.onEvent,
          onStart: letSignalsPass,
        })
      })
    })
}
