// What the commands say about themselves: for their man pages and for the site.
import type { Command, Option } from 'commander'
import { processHost } from '../packages/loam/src/cli/process-host.ts'
import { createProgram } from '../packages/loam/src/cli/program.ts'

/** Options that each command has: they are described once. */
const GLOBAL = ['--root', '--state', '--config', '--daemon', '--json', '--quiet', '--progress', '--help']

/** Returns the program `loam`, whose commands do nothing here. */
export function loamProgram(version: string): Command {
  return createProgram(version, processHost(), () => undefined)
}

/** Returns the commands of a program and theirs, without those that only programs call. */
export function shownCommands(program: Command): Command[] {
  return program.commands
    .flatMap((command) => [command, ...command.commands])
    .filter((command) => !command.name().startsWith('__') && command.name() !== 'help')
}

/** Returns the options that a command has beside those of all commands. */
export function ownOptions(command: Command): Option[] {
  return command.options.filter(({ hidden, long }) => !hidden && !GLOBAL.includes(long ?? ''))
}

/** Returns the words of a command line, as `loam pull [OPTION…] IMAGE…`. */
export function usageOf(command: Command): string {
  const words = command.registeredArguments.map((argument) => {
    const name = `${argument.name().toUpperCase()}${argument.variadic ? '…' : ''}`
    return argument.required ? name : `[${name}]`
  })
  return [fullName(command), '[OPTION…]', ...(command.commands.length > 0 ? ['COMMAND'] : []), ...words].join(
    ' ',
  )
}

/** Returns the words that start a command, as `loam snapshot list`. */
export function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`
}

/** Returns what a command adds behind its help, examples for the most part; commander tells it only to who prints it. */
export function closingText(command: Command): string {
  let whole = ''
  const before = command.configureOutput()
  command.configureOutput({ ...before, writeOut: (each) => (whole += each), getOutHelpWidth: () => 1000 })
  command.outputHelp()
  const help = command.helpInformation()
  command.configureOutput(before)
  return whole.slice(whole.indexOf(help) + help.length).replace(/^\n+|\s+$/g, '')
}

/** Returns the help of an option as a sentence, with the values that it takes. */
export function optionText({ description, argChoices }: Option): string {
  const choices = argChoices === undefined ? '' : ` One of: ${argChoices.join(', ')}.`
  return `${sentence(description)}${choices}`
}

/** Returns words with a full stop. */
export function sentence(words: string): string {
  const trimmed = words.trim()
  return trimmed === '' || /[.:;]$/.test(trimmed) ? trimmed : `${trimmed}.`
}
