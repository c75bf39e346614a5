import type { Command, CommanderError } from 'commander'
import { editDistance, findNear, LoamError } from '../errors/index.ts'
import { findIn, isGroup, wordsOfGroup } from './command-aliases.ts'
import { OTHER_PAIRS, OTHER_WORDS } from './other-commands.ts'
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

/** Returns the error for an invalid command line, with a hint. */
export function usageError(error: CommanderError, command: Command): LoamError {
  if (error.code === 'commander.help')
    return new LoamError('USAGE', `${fullName(command)}: no command is given`, {
      hint: withHelp(undefined, command),
    })
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  if (error.code === 'commander.unknownCommand') return unknownCommand(command.args, command)
  const pair = otherPair(command)
  if (pair !== undefined) return pair
  const setting = /^option '(--\w+) <value>' argument missing/.exec(message)?.[1]
  if (setting !== undefined) return new LoamError('USAGE', `read ${setting}: it needs a value`)
  const own =
    otherOption(message, command) ?? suggestion?.replace(/^\(|\)$/g, '') ?? nearOption(message, command)
  return new LoamError('USAGE', message, {
    hint: withHelp(own, command),
  })
}

/** Returns the replacement of an option of other tools. */
function otherOption(message: string, command: Command): string | undefined {
  const word = /^unknown option '([^'=]*)/.exec(message)?.[1] ?? ''
  return findIn(findIn(OTHER_OPTIONS, command.name()) ?? {}, word)
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

/**
 * Returns the error for words that begin with an unknown command, with the command that may be meant; it never suggests one that removes data for a
 * mistyped word. Of docker's and podman's groups the second word says what is meant.
 */
export function unknownCommand(words: readonly string[], parent: Command): LoamError {
  const [first = '', second = ''] = words
  const isPair = parent.parent === null && isGroup(first) && /^\w/.test(second)
  const own = isPair ? hintOfPair(first, second, parent) : hintOfWord(first, parent)
  return new LoamError('USAGE', `unknown command '${isPair ? `${first} ${second}` : first}'`, {
    hint: withHelp(own, parent),
  })
}

function hintOfWord(word: string, parent: Command): string | undefined {
  const known = parent.parent === null ? findIn(OTHER_WORDS, word) : undefined
  const names = Object.fromEntries(parent.commands.map((each) => [each.name(), each.name()]))
  return known ?? didYouMean(nearest(word, names))
}

function hintOfPair(group: string, word: string, program: Command): string | undefined {
  const known = findIn(findIn(OTHER_PAIRS, group) ?? {}, word) ?? findIn(OTHER_WORDS, word)
  if (known !== undefined) return known
  if (program.commands.some((each) => each.name() === word)) return `Loam's own command is \`loam ${word}\`.`
  const near = nearest(word, wordsOfGroup(group))
  return near === undefined ? findIn(OTHER_WORDS, group) : didYouMean(`${group} ${near}`)
}

/** Returns the error for words that are no arguments of a command, but a command of two words elsewhere: `volume ls`. */
function otherPair(command: Command): LoamError | undefined {
  const { parent } = command
  if (parent === null || parent.parent !== null) return undefined
  const words = [command.name(), ...command.args]
  return isOtherPair(words) ? unknownCommand(words, parent) : undefined
}

/** Returns whether words begin with a command of two words of other tools that Loam does not take as one of its own. */
export function isOtherPair([group = '', word = '']: readonly string[]): boolean {
  return findIn(findIn(OTHER_PAIRS, group) ?? {}, word) !== undefined
}

/** Returns a hint that ends with where the help is. */
function withHelp(hint: string | undefined, command: Command): string {
  const what = command.commands.length > 0 ? 'commands' : 'options'
  return `${hint === undefined ? '' : `${hint} `}\`${fullName(command)} --help\` lists the ${what}.`
}

function didYouMean(name: string | undefined): string | undefined {
  return name === undefined ? undefined : `Did you mean ${name}?`
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`
}

/** Returns the one of the words that a word is a misspelling of; undefined if the command that it stands for may remove data. */
function nearest(word: string, commands: Readonly<Record<string, string>>): string | undefined {
  const ranked = Object.keys(commands)
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .filter(({ name, distance }) => distance <= Math.min(2, Math.floor(name.length / 2)))
    .toSorted((a, b) => a.distance - b.distance)
  const [best, next] = ranked
  if (best === undefined || (next !== undefined && next.distance === best.distance)) return undefined
  return DESTRUCTIVE.includes(commands[best.name] ?? '') ? undefined : best.name
}
