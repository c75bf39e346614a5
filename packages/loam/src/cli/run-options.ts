import { type Command, InvalidArgumentError, Option } from 'commander'
import type { RunImageOptions } from '../containers/index.ts'
import { repeated } from './image-options.ts'

/** An option of `loam run`: how it is written, what the library calls its value, and what the help says. */
interface RunOption {
  readonly flags: string
  readonly key: keyof RunImageOptions
  readonly help: string
  readonly isRepeated?: boolean
  readonly parse?: (text: string) => unknown
}

/** As podman has them where it has them. */
const PROCESS_OPTIONS: readonly RunOption[] = [
  { flags: '--id <id>', key: 'id', help: 'container to make (default: a new one)' },
  {
    flags: '--backend <name>',
    key: 'backend',
    help: 'erofs, overlay, copy or bind (default: the best that works here)',
  },
  {
    flags: '--read-only',
    key: 'isReadOnly',
    help: 'the process may not write to its root filesystem',
  },
  { flags: '--pull', key: 'refresh', help: 'ask the registry what the name stands for now' },
  { flags: '--keep', key: 'keep', help: 'keep the container afterwards' },
  {
    flags: '--env <key[=value]>',
    key: 'env',
    help: 'environment variable; a key alone has its value here; may be repeated',
    isRepeated: true,
  },
  { flags: '--workdir <dir>', key: 'workingDir', help: "working directory (default: the image's)" },
  {
    flags: '--user <user[:group]>',
    key: 'user',
    help: "user by name or number (default: the image's)",
  },
  {
    flags: '--mount <spec>',
    key: 'mounts',
    help: 'type=bind,source=DIR,target=DIR[,readonly], type=tmpfs,target=DIR or type=image,source=IMAGE,target=DIR[,readonly]; may be repeated',
    isRepeated: true,
  },
  {
    flags: '--entrypoint <program>',
    key: 'entrypoint',
    help: "program instead of the image's entrypoint; '' for none",
  },
  { flags: '--shell <line>', key: 'shell', help: 'line for /bin/sh -c, instead of a command' },
]

/** What a container may do. */
const CONFINEMENT_OPTIONS: readonly RunOption[] = [
  {
    flags: '--network <mode>',
    key: 'network',
    help: 'none: loopback alone; host: the network of this machine; ns:PATH: one that was made before (default: none)',
  },
  {
    flags: '--cap-add <capability>',
    key: 'capAdd',
    help: 'capability besides the default ones, or ALL; may be repeated',
    isRepeated: true,
  },
  {
    flags: '--cap-drop <capability>',
    key: 'capDrop',
    help: 'default capability to take from the container, or ALL; may be repeated',
    isRepeated: true,
  },
  {
    flags: '--security-opt <option>',
    key: 'securityOpts',
    help: 'seccomp=FILE or seccomp=unconfined instead of the default profile; no-new-privileges=false for setuid programs; may be repeated',
    isRepeated: true,
  },
  {
    flags: '--pids-limit <count>',
    key: 'pidsLimit',
    help: 'most processes at a time, -1 for no limit (default: 2048)',
    parse: parseCount,
  },
]

/** Options of podman and docker that Loam does not have, and what to write instead. */
export const OTHER_RUN_OPTIONS: Readonly<Record<string, string>> = {
  '--privileged':
    'Write what the process needs: --cap-add ALL --security-opt seccomp=unconfined --security-opt no-new-privileges=false, and --mount for files.',
  '--device': 'Loam gives no devices of this machine to a container.',
  '--publish': 'Loam forwards no ports: --network host has those of this machine.',
  '-p': 'Loam forwards no ports: --network host has those of this machine.',
  '--net': 'Write --network none or --network host.',
  '--detach': '`loam run` stays in the foreground: end the line with &, or let a service manager start it.',
  '-d': '`loam run` stays in the foreground: end the line with &, or let a service manager start it.',
  '--pid': 'The processes of a container are always its own.',
  '--ipc': 'The IPC of a container is always its own.',
  '--uts': 'The host name of a container is always its own.',
  '--cgroupns': 'The cgroup namespace of a container is always its own.',
  '--userns': 'With root there is no user namespace; without, root in the container is you.',
}

/** Adds the options of `loam run` that say how its process is started. */
export function addRunOptions(command: Command): Command {
  for (const option of PROCESS_OPTIONS) command.addOption(toOption(option))
  for (const option of CONFINEMENT_OPTIONS) command.addOption(toOption(option).helpGroup('Confinement:'))
  return command
}

/** Returns what the flags of a command line say, as the library has it. */
export function toRunOptions(flags: Readonly<Record<string, unknown>>): Partial<RunImageOptions> {
  const options = [...PROCESS_OPTIONS, ...CONFINEMENT_OPTIONS]
  return Object.fromEntries(options.map((option) => [option.key, flags[toOption(option).attributeName()]]))
}

function toOption({ flags, help, isRepeated, parse }: RunOption): Option {
  if (isRepeated === true) return repeated(flags, help)
  const option = new Option(flags, help)
  return parse === undefined ? option : option.argParser(parse)
}

function parseCount(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.')
  return Number(text)
}
