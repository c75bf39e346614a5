// The command lines of `loam` and `loamd` in documents, and whether the programs would accept them.
import { type Command, CommanderError } from 'commander'
import { translateWords } from '../../packages/loam/src/cli/command-aliases.ts'
import { commandIndex, moveOptions, translatePull } from '../../packages/loam/src/cli/command-line.ts'
import { createProgram } from '../../packages/loam/src/cli/program.ts'
import { captureHost } from '../../packages/loam/test/support/captured-host.ts'
import { createProgram as createDaemonProgram } from '../../packages/loamd/src/program.ts'

/** A command line of a document. */
export interface CommandLine {
  readonly line: number
  readonly words: readonly string[]
  /** Whether it only mentions a command, so that arguments may be left out. */
  readonly isMention: boolean
}

const BLOCK = /^(`{3,})(?:sh|console)\n([\s\S]*?)\n\1$/gm
const INLINE = /(?<!`)`(loamd? [^`]+)`(?!`)/g
/** Templates, usages and output are not command lines. */
const NOT_A_LINE = /[{}[\]…]|\b[A-Z]{3,}\b|\|\s*-|\.\.\./

/** Returns the command lines of the blocks of a document, and those of the inline code of its tables. */
export function commandLinesIn(text: string): CommandLine[] {
  const lineOf = (offset: number) => text.slice(0, offset).split('\n').length
  const blocks = [...text.matchAll(BLOCK)].flatMap((match) =>
    joinLines(match[2] ?? '').flatMap(({ line, command }) =>
      programCalls(command).map((words) => ({
        line: lineOf(match.index) + 1 + line,
        words,
        isMention: false,
      })),
    ),
  )
  const cells = [...text.matchAll(/^\|.*\|$/gm)].flatMap((row) =>
    [...row[0].replaceAll('\\|', '|').matchAll(INLINE)]
      .filter(([, command = '']) => !NOT_A_LINE.test(command.replaceAll(/'[^']*'/g, '')))
      .flatMap(([, command = '']) => programCalls(command))
      .map((words) => ({ line: lineOf(row.index), words, isMention: true })),
  )
  return [...blocks, ...cells]
}

/** Returns why the program would refuse a command line; undefined if it would not. */
export function refusalOf({
  words,
  isMention,
}: Pick<CommandLine, 'words' | 'isMention'>): string | undefined {
  const [name, ...args] = words
  const isDaemon = name === 'loamd'
  const program = isDaemon ? createDaemonProgram() : createProgram('0', captureHost('/'), () => undefined)
  for (const each of [program, ...program.commands.flatMap((one) => [one, ...one.commands])]) {
    each.configureOutput({ writeErr: () => undefined, writeOut: () => undefined })
    if (each.commands.length === 0 || (isDaemon && each === program)) each.action(() => undefined)
  }
  try {
    program.parse([...(isDaemon ? args : ownWordsOf(program, args))], { from: 'user' })
    return undefined
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return undefined
    const message = error instanceof Error ? error.message : String(error)
    return isMention && message.includes('missing required argument') ? undefined : message
  }
}

/** As the command itself does before it parses. */
function ownWordsOf(program: Command, args: readonly string[]): readonly string[] {
  const translated = translateWords(args, commandIndex(program, args))
  return translatePull(program, moveOptions(program, translated))
}

/** Commands of a block, each on one line: without prompts, and in a block with prompts without output. */
function joinLines(block: string): { readonly line: number; readonly command: string }[] {
  const lines = block.split('\n')
  const isConsole = lines.some((line) => line.startsWith('$ '))
  const commands: { line: number; command: string }[] = []
  let continued: { line: number; command: string } | undefined
  for (const [line, text] of lines.entries()) {
    const isCommand = continued !== undefined || !isConsole || text.startsWith('$ ')
    if (!isCommand) continue
    const own = { line, command: text.replace(/^\$ /, '') }
    const whole: { line: number; command: string } =
      continued === undefined ? own : { line: continued.line, command: `${continued.command} ${own.command}` }
    const isOpen: boolean = whole.command.endsWith('\\')
    continued = isOpen ? { line: whole.line, command: whole.command.slice(0, -1) } : undefined
    if (!isOpen) commands.push(whole)
  }
  return commands
}

/** Returns the words of each call of `loam` or `loamd` in a line of shell. */
function programCalls(line: string): string[][] {
  return splitCommands(line).flatMap((words) => {
    const start = words.findIndex((word) => word === 'loam' || word === 'loamd')
    const before = words.slice(0, Math.max(start, 0))
    const isCall = start >= 0 && before.every((word) => /^\w+=|^(?:sudo|npx|exec|then|do|if|!)$/.test(word))
    return isCall ? [words.slice(start)] : []
  })
}

/** Splits a line of shell into simple commands of words: pipes, lists, substitutions; no nesting beyond that. */
function splitCommands(line: string): string[][] {
  const inner: string[][] = []
  const outer = line.replaceAll(/"?\$\(([^()]*)\)"?/g, (_, command: string) => {
    inner.push(...splitCommands(command))
    return 'SUBSTITUTED'
  })
  const commands: string[][] = [[]]
  const token =
    /\s+|#(?<=(?:^|\s)#).*|(?:&&|\|\||[;|&])|\d?[<>]+&?\s*\S*|(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\;|&<>])+/g
  for (const [text] of outer.matchAll(token)) {
    if (/^\s|^#|^\d?[<>]/.test(text)) continue
    if (/^(?:&&|\|\||[;|&])$/.test(text)) commands.push([])
    else commands.at(-1)?.push(unquote(text))
  }
  return [...inner, ...commands.filter((words) => words.length > 0)]
}

function unquote(word: string): string {
  return word.replaceAll(
    /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/g,
    (_, single?: string, double?: string, escaped?: string) => single ?? double ?? escaped ?? '',
  )
}
