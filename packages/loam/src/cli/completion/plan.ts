import type { Argument, Command, Option } from 'commander'
import { translateWords, wordsOfGroup } from '../command-aliases.ts'
import { commandIndex, translatePull } from '../command-line.ts'
import { SettingOption } from '../setting-options.ts'
import { completionOf, type Kind } from './values.ts'

/** A word that may be typed, and what it means. */
export interface Candidate {
  readonly word: string
  readonly description: string
}

/** The completions of one word. */
export interface CompletionPlan {
  /** The typed part of what is looked up; without the option's name in `--option=part`. */
  readonly typed: string
  /** What stands before it in the same word. */
  readonly prefix: string
  readonly candidates: readonly Candidate[]
  readonly kinds: readonly Kind[]
}

/** Meanings of the names of arguments. An argument may have several, as `image-or-container`. */
const KINDS: readonly (readonly [RegExp, Kind])[] = [
  [/image|reference|^names?$/, 'images'],
  [/container|\bid\b/, 'containers'],
  [/\bkey\b/, 'snapshots'],
  [/file|output|path|source/, 'files'],
  [/dir/, 'directories'],
]

/** Plans how to complete the last one of the words behind the program's name. Pure. */
export function planCompletion(program: Command, words: readonly string[]): CompletionPlan {
  const current = words.at(-1) ?? ''
  const typed = words.slice(0, -1)
  const index = commandIndex(program, typed)
  const group = wordsOfGroup(typed[index] ?? '')
  if (index === typed.length - 1 && !current.startsWith('-') && Object.keys(group).length > 0)
    return ofGroup(program, group, current)
  const own = translatePull(program, translateWords(typed, index))
  const { command, operands, waiting, isOver } = follow(program, own)
  if (waiting !== undefined) return ofValue(waiting, current, '')
  if (isOver) return none(current)
  if (current.startsWith('-')) return ofOption(program, command, current)
  if (command.commands.length > 0 && operands === 0) return ofCommands(command, current)
  const argument = argumentAt(command, operands)
  if (command.name() === 'cp') return { ...none(current), kinds: ['container-paths', 'files'] }
  if (command.name() === 'help') return ofCommands(program, current)
  return argument === undefined ? none(current) : ofArgument(argument, current)
}

/** Follows the words up to the one that is completed: the command, its operands so far, and an option that waits for its value. */
function follow(program: Command, words: readonly string[]) {
  let command = program
  let operands = 0
  let waiting: Option | undefined
  for (const word of words) {
    if (waiting !== undefined) waiting = undefined
    else if (word === '--') return { command, operands, waiting, isOver: operands > 0 || command === program }
    else if (word.startsWith('-'))
      waiting = word.includes('=') ? undefined : findWaiting(program, command, word)
    else {
      const next = operands === 0 ? find(command, word) : undefined
      if (next === undefined) operands += 1
      else command = next
    }
  }
  // Behind the image, the words of `run` are the container's.
  return { command, operands, waiting, isOver: isOfContainer(command, operands) }
}

function isOfContainer(command: Command, operands: number): boolean {
  const argument = argumentAt(command, operands)
  return operands > 0 && argument?.variadic === true && argument.name() === 'command'
}

function find(command: Command, word: string): Command | undefined {
  return command.commands.find((each) => each.name() === word || each.aliases().includes(word))
}

function argumentAt({ registeredArguments }: Command, index: number): Argument | undefined {
  const last = registeredArguments.at(-1)
  return registeredArguments[index] ?? (last?.variadic === true ? last : undefined)
}

/** Returns the option whose value is the next word. Short options may be one word: `-itu root`. */
function findWaiting(program: Command, command: Command, word: string): Option | undefined {
  const options = [...command.options, ...program.options]
  if (word.startsWith('--')) {
    const option = options.find((each) =>
      each instanceof SettingOption ? each.is(word) : each.long === word,
    )
    return option?.required === true ? option : undefined
  }
  const letters = word.slice(1).split('')
  const short = letters.map((letter) => options.find((each) => each.short === `-${letter}`))
  const first = short.findIndex((option) => option?.required === true)
  return first === letters.length - 1 ? short[first] : undefined
}

/** Offers the second words of a group of docker's commands. */
function ofGroup(program: Command, group: Readonly<Record<string, string>>, current: string): CompletionPlan {
  const candidates = Object.entries(group)
    .filter(([word]) => word.startsWith(current))
    .map(([word, own]) => ({ word, description: summaryOf(find(program, own)?.description() ?? '') }))
  return { ...none(current), candidates }
}

function ofCommands(command: Command, current: string): CompletionPlan {
  return {
    ...none(current),
    candidates: listed(command.commands)
      .filter((each) => each.name().startsWith(current))
      .map((each) => ({ word: each.name(), description: summaryOf(each.description()) })),
  }
}

/** Returns the commands that help lists. */
export function listed(commands: readonly Command[]): Command[] {
  return commands.filter((each) => !each.name().startsWith('__'))
}

function ofOption(program: Command, command: Command, current: string): CompletionPlan {
  const equals = current.indexOf('=')
  if (equals > 0) {
    const option = findWaiting(program, command, current.slice(0, equals))
    if (option !== undefined) return ofValue(option, current.slice(equals + 1), current.slice(0, equals + 1))
  }
  const own = command.options.filter((option) => !option.hidden).map(describe)
  const help = { word: '--help', description: 'show help' }
  // The settings are many: they are offered where a letter says which.
  const settings = /^--\w/.test(current)
    ? program.options.filter((option) => option instanceof SettingOption).map(describe)
    : []
  const all = [...own, help, ...settings].filter(({ word }) => word.startsWith(current))
  return { ...none(current), candidates: [...new Map(all.map((each) => [each.word, each])).values()] }
}

function describe(option: Option): Candidate {
  return { word: option.long ?? option.short ?? '', description: summaryOf(option.description) }
}

function ofArgument(argument: Argument, current: string): CompletionPlan {
  if (argument.argChoices !== undefined)
    return { ...none(current), candidates: startingWith(argument.argChoices, current) }
  return { ...none(current), kinds: kindsOf(argument.name()) }
}

function ofValue(option: Option, value: string, before: string): CompletionPlan {
  const { kept = '', words = [], kinds = [] } = completionOf(option, value)
  const typed = value.slice(kept.length)
  return { typed, prefix: `${before}${kept}`, candidates: startingWith(words, typed), kinds }
}

function startingWith(words: readonly string[], typed: string): Candidate[] {
  return words.filter((word) => word.startsWith(typed)).map((word) => ({ word, description: '' }))
}

function kindsOf(name: string): Kind[] {
  return KINDS.filter(([pattern]) => pattern.test(name)).map(([, kind]) => kind)
}

function none(current: string): CompletionPlan {
  return { typed: current, prefix: '', candidates: [], kinds: [] }
}

/** Returns the first clause of a description. */
function summaryOf(description: string): string {
  return description.replace(/[;:(\n].*/s, '').trim()
}
