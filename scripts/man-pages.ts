// Writes the man pages of the commands from their own help: `node scripts/man-pages.ts DIRECTORY`. loam.1 has all commands; the
// pages loam-COMMAND.1 are for packages that can install many, as Debian's. The date is SOURCE_DATE_EPOCH, or now.
import type { Command, Option } from 'commander'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SETTING_NAMES, SETTINGS } from '../packages/loam/src/config/index.ts'
import { createProgram as createDaemonProgram } from '../packages/loamd/src/program.ts'
import {
  closingText,
  fullName,
  loamProgram,
  optionText,
  ownOptions,
  sentence,
  shownCommands,
  usageOf,
} from './described-commands.ts'

interface ManPage {
  /** Name of the file, with its section. */
  readonly file: string
  readonly text: string
}

interface Edition {
  readonly version: string
  readonly date: Date
}

/** Returns the version of the packages, and the date SOURCE_DATE_EPOCH or today. */
export function packageEdition(): Edition {
  const { version } = JSON.parse(
    readFileSync(new URL('../packages/loam/package.json', import.meta.url), 'utf8'),
  ) as { version: string }
  const seconds = process.env['SOURCE_DATE_EPOCH']
  return { version, date: seconds === undefined ? new Date() : new Date(Number(seconds) * 1000) }
}

/** Returns the pages of `loam`, of its configuration, and of `loamd`. */
export function manPages(edition: Edition): ManPage[] {
  const program = loamProgram(edition.version)
  const commands = shownCommands(program)
  return [
    { file: 'loam.1', text: programPage(program, commands, edition) },
    ...commands.map((command) => ({
      file: `${pageName(command)}.1`,
      text: commandPage(command, edition),
    })),
    { file: 'loam-config.toml.5', text: configurationPage(edition) },
    { file: 'loamd.8', text: daemonPage(createDaemonProgram(), edition) },
  ]
}

function programPage(program: Command, commands: readonly Command[], edition: Edition): string {
  return page([
    heading('loam', 1, edition),
    section('NAME', text('loam - create root filesystems from container images')),
    section('SYNOPSIS', synopsis('loam [OPTION…] COMMAND [ARGUMENT…]')),
    section('DESCRIPTION', text(program.description()), text(closingText(program))),
    section('OPTIONS', ...program.options.filter(({ hidden }) => !hidden).map(option)),
    section('COMMANDS', ...commands.map((command) => subsection(command))),
    ENVIRONMENT,
    EXIT_STATUS,
    section('SEE ALSO', seeAlso('loam-config.toml(5)', 'loamd(8)', 'runc(8)')),
  ])
}

function commandPage(command: Command, edition: Edition): string {
  const own = ownOptions(command)
  return page([
    heading(pageName(command), 1, edition),
    section('NAME', text(`${pageName(command)} - ${command.description()}`)),
    section('SYNOPSIS', synopsis(usageOf(command))),
    ...(own.length === 0 ? [] : [section('OPTIONS', ...own.map(option))]),
    ...examples(command),
    section(
      'SEE ALSO',
      text('The options of all commands, and the exit statuses, are in:'),
      seeAlso('loam(1)'),
    ),
  ])
}

function configurationPage(edition: Edition): string {
  const settings = SETTING_NAMES.map((name) => {
    const { help, defaultValue } = SETTINGS[name] as {
      help: string
      defaultValue?: string | number | boolean
    }
    const known = defaultValue === undefined ? '' : ` Default: ${String(defaultValue)}`
    return `.TP\n.B ${escape(name)}\n${text(`${help}${known}`)}`
  })
  return page([
    heading('loam-config.toml', 5, edition),
    section('NAME', text('config.toml - settings of loam and loamd')),
    section('SYNOPSIS', '.I /etc/loam/config.toml'),
    section(
      'DESCRIPTION',
      text(
        'Each setting is a line NAME = VALUE of TOML. It is also a flag of each command (--NAME VALUE) and a variable of the environment (LOAM_NAME). Flags precede variables, and these precede the file. `loam config` shows the settings in force, and where each comes from.',
      ),
    ),
    section('SETTINGS', ...settings),
    section('SEE ALSO', seeAlso('loam(1)', 'loamd(8)')),
  ])
}

function daemonPage(program: Command, edition: Edition): string {
  return page([
    heading('loamd', 8, edition),
    section('NAME', text('loamd - daemon of Loam: its API, and a snapshotter for containerd')),
    section(
      'SYNOPSIS',
      synopsis('loamd [OPTION…]'),
      ...program.commands.map((each) => `.PP\n${synopsis(`loamd ${each.name()} ${each.usage()}`)}`),
    ),
    section('DESCRIPTION', text(program.description())),
    section('OPTIONS', ...program.options.filter(({ hidden }) => !hidden).map(option)),
    section('COMMANDS', ...program.commands.map((command) => subsection(command))),
    section('SEE ALSO', seeAlso('loam(1)', 'loam-config.toml(5)', 'containerd(8)')),
  ])
}

function subsection(command: Command): string {
  return [
    `.SS ${escape(usageOf(command))}`,
    text(sentence(command.description())),
    ...ownOptions(command).map(option),
    ...examples(command).map((each) => each.replace(/^\.SH EXAMPLES\n/, '.PP\n')),
  ].join('\n')
}

function option(each: Option): string {
  return `.TP\n.B ${escape(each.flags)}\n${text(optionText(each))}`
}

/** Help behind the options is a list of examples, one a line. */
function examples(command: Command): string[] {
  const after = closingText(command)
  return after === '' ? [] : [`.SH EXAMPLES\n.EX\n${escapeLines(after)}\n.EE`]
}

const ENVIRONMENT = section(
  'ENVIRONMENT',
  '.TP\n.B LOAM_NAME\nThe setting NAME, as in loam\\-config.toml(5).',
  '.TP\n.B LOAM_DAEMON\nauto, never or require: whether loamd(8) runs the command.',
  '.TP\n.B LOAM_DEBUG\nIf it is set, errors show where they come from.',
  '.TP\n.B NO_COLOR\nIf it is set, nothing is coloured.',
  '.TP\n.B SOURCE_DATE_EPOCH\nThe time of the image that a commit creates, in seconds since 1970. Later times of the changed files become this one; exports keep the times of files.',
)

const EXIT_STATUS = section(
  'EXIT STATUS',
  '.TP\n.B 0\nThe command has done its work.',
  '.TP\n.B 1\nIt has failed; standard error says why.',
  '.TP\n.B 2\nThe command line is wrong.',
  '.TP\n.B 125, 126, 127\nOf `loam run`: it has failed, the command cannot be executed, or it is not found. Otherwise the status of the command.',
  '.TP\n.B 130, 141\nIt was interrupted; its output was closed.',
)

function heading(name: string, number: number, { version, date }: Edition): string {
  return `.TH ${escape(name.toUpperCase())} ${number} ${date.toISOString().slice(0, 10)} "Loam ${version}" "Loam"`
}

function section(name: string, ...parts: readonly string[]): string {
  return [`.SH ${name}`, ...parts.filter((part) => part !== '')].join('\n')
}

function synopsis(line: string): string {
  return `.B ${escape(line)}`
}

function seeAlso(...pages: readonly string[]): string {
  return pages.map((each) => `.BR ${escape(each).replace('(', ' (')}`).join(' ,\n')
}

function pageName(command: Command): string {
  return fullName(command).replaceAll(' ', '-')
}

function page(parts: readonly string[]): string {
  return `${parts.join('\n')}\n`
}

/** A paragraph. */
function text(words: string): string {
  return escapeLines(words.trim())
}

function escapeLines(words: string): string {
  return words
    .split('\n')
    .map((line) => escape(line).replace(/^(?=[.'])/, '\\&'))
    .join('\n')
}

function escape(words: string): string {
  return words.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('…', '...')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder = 'man'] = process.argv.slice(2)
  mkdirSync(folder, { recursive: true })
  for (const { file, text: content } of manPages(packageEdition())) writeFileSync(join(folder, file), content)
}
