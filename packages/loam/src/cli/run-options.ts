import { type Command, InvalidArgumentError, Option } from 'commander'
import type { BackendName } from '../backends/index.ts'
import type { RunImageOptions } from '../containers/index.ts'
import { CAPABILITIES } from '../runtime/index.ts'
import { type Completion, completes, keyed, type ValueCompletion } from './completion/values.ts'
import { repeated } from './image-options.ts'
import { parseSize, SIZE_HELP } from './size.ts'

/** An option of `loam run`: its syntax, the library's name of its value, and its help text. */
interface RunOption {
  readonly flags: string
  readonly key: keyof RunImageOptions
  readonly help: string
  readonly isRepeated?: boolean
  readonly parse?: (text: string) => unknown
  readonly completion?: Completion
}

const BACKEND_HELP = 'erofs, overlay, copy or bind (default: the best one that works on this machine)'
export const BACKEND_NAMES = ['erofs', 'overlay', 'copy', 'bind'] satisfies BackendName[]

/** Named as in podman, if podman has them. */
const PROCESS_OPTIONS: readonly RunOption[] = [
  { flags: '--id <id>', key: 'id', help: 'container ID (default: generated)' },
  { flags: '--backend <name>', key: 'backend', help: BACKEND_HELP, completion: BACKEND_NAMES },
  {
    flags: '--read-only',
    key: 'isReadOnly',
    help: 'make the root filesystem read-only; /run and /tmp, too: add --tmpfs /run --tmpfs /tmp where programs need them',
  },
  { flags: '--size <size>', key: 'sizeBytes', help: SIZE_HELP, parse: parseSize },
  {
    flags: '--pull',
    key: 'refresh',
    help: 'resolve the name at its source, even if the image is in the store',
  },
  {
    flags: '-e, --env <key[=value]>',
    key: 'env',
    help: 'environment variable; KEY alone passes on the current value; repeatable',
    isRepeated: true,
  },
  { flags: '-w, --workdir <dir>', key: 'workingDir', help: "working directory (default: the image's)" },
  {
    flags: '-u, --user <user[:group]>',
    key: 'user',
    help: "user name or number (default: the image's)",
  },
  {
    flags: '--mount <spec>',
    key: 'mounts',
    help: 'type=bind,source=DIR,target=DIR[,readonly], type=tmpfs,target=DIR or type=image,source=IMAGE,target=DIR[,readonly]; repeatable',
    completion: keyed(['type=', 'source=', 'target=', 'readonly'], (key, word) => {
      if (key === 'type') return { words: ['bind', 'tmpfs', 'image'] }
      if (key !== 'source' && key !== 'src') return {}
      return { kinds: [/\btype=image\b/.test(word) ? 'images' : 'paths'] }
    }),
    isRepeated: true,
  },
  {
    flags: '--entrypoint <program>',
    key: 'entrypoint',
    help: "program, or JSON list of words, to run instead of the image's entrypoint; '' for none",
  },
  {
    flags: '--tmpfs <path[:options]>',
    key: 'tmpfs',
    help: 'file system in memory that begins with the content of the image there, for example /run:size=64m; repeatable',
    isRepeated: true,
  },
  { flags: '-h, --hostname <name>', key: 'hostname', help: "host name (default: the container's ID)" },
  { flags: '--shell <line>', key: 'shell', help: 'shell command line to run with /bin/sh -c' },
]

/** Options of the container's confinement. */
const CONFINEMENT_OPTIONS: readonly RunOption[] = [
  {
    flags: '--network <mode>',
    key: 'network',
    help: 'none: loopback only; host: the network of this machine; ns:PATH: an existing network namespace (default: none)',
    completion: completeNetwork,
  },
  {
    flags: '--cap-add <capability>',
    key: 'capAdd',
    help: 'capability to add to the default set, or ALL; repeatable',
    completion: ['ALL', ...CAPABILITIES],
    isRepeated: true,
  },
  {
    flags: '--cap-drop <capability>',
    key: 'capDrop',
    help: 'capability to drop from the default set, or ALL; repeatable',
    completion: ['ALL', ...CAPABILITIES],
    isRepeated: true,
  },
  {
    flags: '--security-opt <option>',
    key: 'securityOpts',
    help: 'seccomp=FILE or seccomp=unconfined instead of the default profile; no-new-privileges=false to allow setuid programs; repeatable',
    completion: keyed(['seccomp=', 'no-new-privileges=false'], (key) =>
      key === 'seccomp' ? { words: ['unconfined'], kinds: ['paths'] } : { words: ['false'] },
    ),
    isRepeated: true,
  },
  {
    flags: '--pids-limit <count>',
    key: 'pidsLimit',
    help: 'maximum number of processes, -1 for no limit (default: 2048)',
    parse: parseCount,
  },
  {
    flags: '-m, --memory <size>',
    key: 'memoryBytes',
    help: 'maximum memory, and as much swap again, for example 512m (default: no limit)',
    parse: parseSize,
  },
  {
    flags: '--cpus <number>',
    key: 'cpus',
    help: 'maximum number of processors, for example 0.5 (default: no limit)',
    parse: parseCpus,
  },
]

/** Adds the options of `loam run` that describe its process. */
export function addRunOptions(command: Command): Command {
  for (const option of PROCESS_OPTIONS) command.addOption(toOption(option))
  for (const option of CONFINEMENT_OPTIONS) command.addOption(toOption(option).helpGroup('Confinement:'))
  return command
}

/** Returns the flags of a command line as the library's options. */
export function toRunOptions(flags: Readonly<Record<string, unknown>>): Partial<RunImageOptions> {
  const options = [...PROCESS_OPTIONS, ...CONFINEMENT_OPTIONS]
  return Object.fromEntries(options.map((option) => [option.key, flags[toOption(option).attributeName()]]))
}

/** Returns the option for the backend of root filesystems. */
export function backendOption(): Option {
  return completes(new Option('--backend <name>', BACKEND_HELP), BACKEND_NAMES)
}

/** Completes the network of a container. */
export function completeNetwork(typed: string): ValueCompletion {
  return typed.startsWith('ns:') ? { kept: 'ns:', kinds: ['paths'] } : { words: ['none', 'host', 'ns:'] }
}

function toOption({ flags, help, isRepeated, parse, completion = [] }: RunOption): Option {
  if (isRepeated === true) return completes(repeated(flags, help), completion)
  const option = completes(new Option(flags, help), completion)
  return parse === undefined ? option : option.argParser(parse)
}

function parseCpus(text: string): number {
  if (!/^\d{1,5}(?:\.\d{1,9})?$/.test(text)) throw new InvalidArgumentError('Give a number, for example 1.5.')
  return Number(text)
}

function parseCount(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a whole number.')
  return Number(text)
}
