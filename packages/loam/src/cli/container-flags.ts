import { type Command, Option } from 'commander'
import type { RunImageOptions } from '../containers/index.ts'
import { LoamError } from '../errors/index.ts'
import { envFileOption, readEnvFiles } from './env-file.ts'
import type { Host } from './host.ts'
import { completes, type ValueCompletion } from './completion/values.ts'
import { repeated } from './image-options.ts'
import { completeNetwork } from './run-options.ts'
import { absoluteBind, parseVolume } from './volume-option.ts'

/** Options of `loam run` that are spelled as in podman and mean several things of the library. */
export interface ContainerFlags {
  readonly id?: string
  readonly name?: string
  readonly rm?: boolean
  readonly keep?: boolean
  readonly detach?: boolean
  readonly tty?: boolean
  readonly interactive?: boolean
  readonly env?: readonly string[]
  readonly envFile?: readonly string[]
  readonly volume?: readonly string[]
  readonly mount?: readonly string[]
  readonly network?: string
  readonly net?: string
}

export function addContainerFlags(command: Command): Command {
  return command
    .option('--name <id>', 'the same as --id')
    .option(
      '-d, --detach',
      'run in the background and print the ID; the container stays until `loam rm`, or with --rm until its process ends',
    )
    .option(
      '-i, --interactive',
      'keep standard input open with --detach; without it the process always has it',
    )
    .option('--rm', 'remove the container when its process has ended (default without --detach)')
    .addOption(new Option('--keep', 'keep the container after the process exits').conflicts('rm'))
    .addOption(
      completes(
        repeated(
          '-v, --volume <host:target[:ro]>',
          'path of this machine to mount, as --mount type=bind; repeatable',
        ),
        completeVolume,
      ),
    )
    .addOption(envFileOption())
    .addOption(completes(new Option('--net <mode>', 'the same as --network'), completeNetwork).hideHelp())
}

/** The target is a path of the container. */
function completeVolume(typed: string): ValueCompletion {
  const [, kept] = /^([^:]*:[^:]*:)/.exec(typed) ?? []
  if (kept !== undefined) return { kept, words: ['ro'] }
  return typed.includes(':') ? {} : { kinds: ['mounted-files'] }
}

/** Returns the library's options for the flags. Reads files from the caller's directory. @throws USAGE, SOURCE_NOT_FOUND */
export function toContainerOptions(
  flags: ContainerFlags,
  host: Pick<Host, 'cwd' | 'env'>,
): Partial<RunImageOptions> {
  const { id, name, network, net, env = [], envFile = [], volume = [], keep, detach } = flags
  if (id !== undefined && name !== undefined && id !== name)
    throw new LoamError('USAGE', `run: --id ${id} and --name ${name} are the same option`)
  return {
    id: id ?? name,
    network: network ?? net,
    env: [...readEnvFiles(envFile, host), ...env],
    mounts: flags.mount?.map((text) => absoluteBind(text, host.cwd)),
    hostMounts: volume.map((text) => parseVolume(text, host.cwd)),
    keep,
    detach,
    remove: flags.rm,
    keepsInput: flags.interactive,
  }
}
