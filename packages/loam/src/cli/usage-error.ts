import type { Command, CommanderError } from 'commander'
import { editDistance, findNear, LoamError } from '../errors/index.ts'
import { OTHER_OPTIONS } from './other-options.ts'

/** Commands that are never suggested for a mistyped word. */
const DESTRUCTIVE: readonly string[] = [
  'destroy',
  'rm',
  'rmi',
  'prune',
  'gc',
  'recover',
  'kill',
  'stop',
  'umount',
  'untag',
  'unexport',
  'logout',
]

/** Commands of other tools, and their counterparts in Loam or elsewhere. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  image: '`loam images` lists images; `loam image ls|pull|push|rm|tag|inspect` is understood.',
  container: '`loam ps` lists containers; `loam container ls|run|exec|logs|rm` is understood.',
  containers: '`loam ps` lists containers.',
  system: '`loam df` shows disk usage, `loam doctor` what works on this machine.',
  create: '`loam provision` creates a root filesystem, `loam run` runs a process in one.',
  unpack: '`loam provision` creates a root filesystem from an image.',
  fetch: '`loam pull` pulls an image into the store.',
  check: '`loam fsck` verifies the store.',
  verify: '`loam fsck` verifies the store.',
  info: '`loam doctor` reports what works on this machine, `loam config` shows the settings.',
  version: '`loam --version` prints the version.',
  attach: '`loam logs -f` follows the output of a container, `loam exec -it` runs a shell in it.',
  top: '`loam exec CONTAINER ps` lists the processes of a container.',
  stats: 'Loam does not measure processes; `systemd-cgtop` does.',
  restart: '`loam stop` and `loam start` restart the process of a container.',
  pause: 'Loam does not pause processes; `loam kill -s STOP` and `-s CONT` do it for the first one.',
  unpause: '`loam kill -s CONT` continues a process.',
  wait: '`loam run` without --detach waits; `loam logs -f` ends with the process.',
  port: 'Loam does not forward ports; --network host shares the network of this machine.',
  rename: 'A container keeps its ID; `loam tag` gives an image another name.',
  update: 'The limits of a container are chosen by `loam run`.',
  network: '`loam run --network none|host|ns:PATH` chooses the network of a container.',
  compose: 'Loam runs single containers; `podman-compose` runs several.',
  'list-tags': '`loam tags REPOSITORY` lists the tags of a repository.',
  manifest: '`loam inspect --raw IMAGE` writes the manifest of an image in its registry.',
  digest: '`loam inspect --remote --format {{.Digest}} IMAGE` writes the digest of a tag.',
  search: 'Loam does not search registries; `podman search` does.',
  build: 'Loam does not build images; `podman build` does.',
}

/** Returns the error for an invalid command line, with a hint. */
export function usageError(error: CommanderError, command: Command): LoamError {
  const name = fullName(command)
  if (error.code === 'commander.help') {
    return new LoamError('USAGE', `${name}: no command is given`, {
      hint: `\`${name} --help\` lists the commands.`,
    })
  }
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  if (error.code === 'commander.unknownCommand') return unknownCommand(command.args[0] ?? '', command)
  const setting = /^option '(--\w+) <value>' argument missing/.exec(message)?.[1]
  if (setting !== undefined) return new LoamError('USAGE', `read ${setting}: it needs a value`)
  const own =
    otherOption(message, command) ?? suggestion?.replace(/^\(|\)$/g, '') ?? nearOption(message, command)
  const what = command.commands.length > 0 ? 'commands' : 'options'
  return new LoamError('USAGE', message, {
    hint: `${own === undefined ? '' : `${own} `}\`${name} --help\` lists the ${what}.`,
  })
}

/** Returns the replacement of an option of other tools. */
function otherOption(message: string, command: Command): string | undefined {
  const word = /^unknown option '([^'=]*)/.exec(message)?.[1] ?? ''
  const others = Object.hasOwn(OTHER_OPTIONS, command.name()) ? OTHER_OPTIONS[command.name()] : undefined
  return others !== undefined && Object.hasOwn(others, word) ? others[word] : undefined
}

/** Returns a question about an option with a value, as `--rooot=/x`. */
function nearOption(message: string, command: Command): string | undefined {
  const word = /^unknown option '(--[^'=]+)=/.exec(message)?.[1]
  if (word === undefined) return undefined
  const all = [command, ...(command.parent === null ? [] : [command.parent])]
  const known = all.flatMap(({ options }) => options.flatMap(({ long }) => long ?? []))
  const [near] = findNear(word, known)
  return near === undefined ? undefined : `Did you mean ${near}?`
}

/** Returns the error for an unknown command, with the command that may be meant; it never suggests one that removes data. */
export function unknownCommand(word: string, parent: Command): LoamError {
  const name = fullName(parent)
  const isRoot = parent.parent === null
  const known = isRoot && Object.hasOwn(OTHER_WORDS, word) ? OTHER_WORDS[word] : undefined
  const similar =
    known === undefined
      ? nearest(
          word,
          parent.commands.map((each) => each.name()),
        )
      : undefined
  const own = known ?? (similar === undefined ? '' : `Did you mean ${similar}?`)
  return new LoamError('USAGE', `unknown command '${word}'`, {
    hint: `${own}${own === '' ? '' : ' '}\`${name} --help\` lists the commands.`,
  })
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`
}

/** Returns the one name that a word is a misspelling of; undefined if it may be one that removes data. */
function nearest(word: string, names: readonly string[]): string | undefined {
  const ranked = names
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .filter(({ name, distance }) => distance <= Math.min(2, Math.floor(name.length / 2)))
    .toSorted((a, b) => a.distance - b.distance)
  const [best, next] = ranked
  if (best === undefined || (next !== undefined && next.distance === best.distance)) return undefined
  return DESTRUCTIVE.includes(best.name) ? undefined : best.name
}
