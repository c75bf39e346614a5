import type { Command, Option } from 'commander'
import { SettingOption } from './setting-options.ts'

/**
 * Moves the options of a command that precede its name behind it, so that `--insecure HOST pull IMAGE` becomes
 * `pull --insecure HOST IMAGE`. Options of the program itself, such as `--json`, and words behind the name stay in place.
 */
export function moveOptions(program: Command, args: readonly string[]): readonly string[] {
  const own: string[] = []
  const moved: string[] = []
  const end = commandIndex(program, args)
  for (let index = 0; index < end; index += 1) {
    const arg = args[index] ?? ''
    const isOfCommand = findOption(program, arg) === undefined && findInCommands(program, arg) !== undefined
    const length = takesNext(program, arg) ? 2 : 1
    ;(isOfCommand ? moved : own).push(...args.slice(index, Math.min(index + length, end)))
    index += length - 1
  }
  return [...own, ...args.slice(end, end + 1), ...moved, ...args.slice(end + 1)]
}

/** Returns the index of the first word that is neither an option nor an option's value; the number of words if there is none. */
export function commandIndex(program: Command, args: readonly string[]): number {
  let index = 0
  while (index < args.length) {
    const arg = args[index] ?? ''
    if (!arg.startsWith('-') || arg === '--') return index
    index += takesNext(program, arg) ? 2 : 1
  }
  return args.length
}

function takesNext(program: Command, arg: string): boolean {
  // In front of a command's name it asks for help; `run` has another one.
  if (arg === '-h') return false
  return takesNextBy(arg, (word) => findOption(program, word) ?? findInCommands(program, word))
}

/** Returns whether the value of an option is the next word. Short options may be one word: `-itu root`, and the value may follow: `-uroot`. */
function takesNextBy(arg: string, find: (word: string) => Option | undefined): boolean {
  if (arg.includes('=')) return false
  if (arg.startsWith('--')) return find(arg)?.required ?? false
  const letters = arg.slice(1).split('')
  const first = letters.findIndex((letter) => find(`-${letter}`)?.required === true)
  return first >= 0 && first === letters.length - 1
}

function findInCommands(program: Command, arg: string): Option | undefined {
  return program.commands.flatMap((command) => findOption(command, arg) ?? [])[0]
}

function findOption(command: Command, arg: string): Option | undefined {
  const word = arg.startsWith('--') ? arg.replace(/=.*/s, '') : arg
  return command.options.find((option) =>
    option instanceof SettingOption ? option.is(word) : option.long === word || option.short === word,
  )
}

/** Returns the words that may be options of Loam itself: for `run` and `exec`, those before the image or container. bin/loam.cjs does the same. */
export function ownWords(program: Command, args: readonly string[]): readonly string[] {
  const own = args.slice(0, imageIndex(program, args))
  const end = own.indexOf('--')
  return end < 0 ? own : own.slice(0, end)
}

/** docker's and podman's policies of `--pull`, by whether they ask the registry. */
const PULL_POLICIES: Readonly<Record<string, readonly string[]>> = {
  always: ['--pull'],
  newer: ['--pull'],
  missing: [],
}

/** Returns a command line of `run` in which a policy of `--pull` is Loam's own flag; `--pull never` stays, and is refused. */
export function translatePull(program: Command, args: readonly string[]): readonly string[] {
  if (args[commandIndex(program, args)] !== 'run') return args
  const index = imageIndex(program, args)
  const policy = args[index] ?? ''
  if (args[index - 1] === '--pull' && [...Object.keys(PULL_POLICIES), 'never'].includes(policy))
    return translatePull(program, [...args.slice(0, index - 1), `--pull=${policy}`, ...args.slice(index + 1)])
  return args.flatMap((word, at) => {
    const [, named = ''] = /^--pull=(\w+)$/.exec(word) ?? []
    return at < index && Object.hasOwn(PULL_POLICIES, named) ? (PULL_POLICIES[named] ?? []) : [word]
  })
}

/** Returns the words that may name files of the caller: all but those that `run` or `exec` passes to a container. */
export function hostWords(program: Command, args: readonly string[]): readonly string[] {
  return args.slice(0, imageIndex(program, args) + 1)
}

/** Returns the index of the image of `run`, or the container of `exec`; the number of words for other commands. */
function imageIndex(program: Command, args: readonly string[]): number {
  let index = commandIndex(program, args)
  if (args[index] !== 'run' && args[index] !== 'exec') return args.length
  const run = program.commands.find((command) => command.name() === args[index]) ?? program
  for (index += 1; index < args.length; index += 1) {
    const arg = args[index] ?? ''
    if (arg === '--') return index + 1
    if (!arg.startsWith('-')) return index
    if (takesNextBy(arg, (word) => findOption(run, word) ?? findOption(program, word))) index += 1
  }
  return args.length
}
