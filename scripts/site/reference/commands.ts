import type { Command } from 'commander'
import { createProgram as createDaemonProgram } from '../../../packages/loamd/src/program.ts'
import {
  closingText,
  fullName,
  loamProgram,
  optionText,
  ownOptions,
  sentence,
  shownCommands,
  usageOf,
} from '../../described-commands.ts'
import { packageEdition } from '../../man-pages.ts'
import { code, fenced, table } from '../markdown.ts'
import type { Entry, Page, Reference } from '../page.ts'

/** Returns a page for each command of `loam`, one for all of them and one for `loamd`. */
export function commandPages(): Reference {
  const program = loamProgram(packageEdition().version)
  const commands = shownCommands(program)
  const pages = commands.map((command) => ({ path: pathOf(command), text: commandText(command) }))
  const groups = Map.groupBy(commands, groupOf)
  const items = [...groups].map(([text, own]) => ({
    text,
    collapsed: true,
    items: own.map(
      (command): Entry => ({ text: fullName(command), link: `/${pathOf(command).slice(0, -3)}` }),
    ),
  }))
  const overview: Page = { path: 'reference/commands.md', text: overviewText(program, groups) }
  const daemon: Page = { path: 'reference/loamd.md', text: daemonText() }
  return {
    pages: [overview, daemon, ...pages],
    entries: [
      { text: 'Commands', link: '/reference/commands', collapsed: true, items },
      { text: 'loamd', link: '/reference/loamd' },
    ],
  }
}

function pathOf(command: Command): string {
  return `reference/commands/${fullName(command)
    .replace(/^loam /, '')
    .replaceAll(' ', '-')}.md`
}

/** The heading of a command in the help; a command of a command has that of its parent. */
function groupOf(command: Command): string {
  const { parent } = command
  const own = command.helpGroup() || (parent === null ? '' : parent.helpGroup())
  return own.replace(/:$/, '')
}

function overviewText(program: Command, groups: ReadonlyMap<string, readonly Command[]>): string {
  const options = program.options.filter(({ hidden }) => !hidden)
  return [
    '# Commands',
    fenced('sh', 'loam [OPTION…] COMMAND [ARGUMENT…]'),
    'Results go to standard output, everything else to standard error. [Output of the command](../terminal.md) and [Lists](../lists.md) say more.',
    ...[...groups].map(([title, commands]) => {
      const rows = commands.map((command) => [
        `[${fullName(command)}](./${pathOf(command).slice('reference/'.length)})`,
        sentence(command.description()),
      ])
      return `## ${title}\n\n${table(['Command', 'What it does'], rows)}`
    }),
    '## Options of all commands',
    optionTable(options),
    'Each setting of [the configuration](./settings.md) is also an option: `--NAME VALUE`.',
    '## Environment',
    table(
      ['Variable', 'Meaning'],
      [
        ['`LOAM_NAME`', 'The setting NAME: [settings](./settings.md).'],
        ['`LOAM_DAEMON`', '`auto`, `never` or `require`: whether `loamd` runs the command.'],
        ['`LOAM_DEBUG`', 'If it is set, errors show where they come from.'],
        ['`NO_COLOR`', 'If it is set, nothing is coloured.'],
        ['`SOURCE_DATE_EPOCH`', 'The time of the image that a commit creates, in seconds since 1970.'],
      ],
    ),
    'Exit statuses are in [Errors](../errors.md).',
  ].join('\n\n')
}

function commandText(command: Command): string {
  const closing = closingText(command)
  const options = ownOptions(command)
  const aliases = command.aliases()
  return [
    `# ${fullName(command)}`,
    sentence(upper(command.description())),
    fenced('sh', usageOf(command)),
    ...(aliases.length === 0 ? [] : [`Also: ${aliases.map(code).join(', ')}.`]),
    ...(command.commands.length === 0 ? [] : ['## Commands', subcommandTable(command)]),
    ...(options.length === 0 ? [] : ['## Options', optionTable(options)]),
    ...(closing === '' ? [] : ['## Examples', fenced('text', closing)]),
    '[Options of all commands](../commands.md#options-of-all-commands)',
  ].join('\n\n')
}

function subcommandTable(command: Command): string {
  const rows = command.commands
    .filter((each) => each.name() !== 'help')
    .map((each) => [
      `[${fullName(each)}](./${fullName(each)
        .replace(/^loam /, '')
        .replaceAll(' ', '-')}.md)`,
      sentence(each.description()),
    ])
  return table(['Command', 'What it does'], rows)
}

function daemonText(): string {
  const program = createDaemonProgram()
  return [
    '# loamd',
    program.description(),
    fenced('sh', ['loamd [OPTION…]', ...program.commands.map(usageOf)].join('\n')),
    '[Running loamd](../operations.md) and [containerd with Loam](../containerd.md) say how it is used.',
    '## Options',
    optionTable(program.options.filter(({ hidden }) => !hidden)),
    ...program.commands.flatMap((command) => [
      `## ${fullName(command)}`,
      sentence(upper(command.description())),
      fenced('sh', usageOf(command)),
      optionTable(ownOptions(command)),
      ...(closingText(command) === '' ? [] : [fenced('text', closingText(command))]),
    ]),
  ].join('\n\n')
}

function optionTable(options: ReturnType<typeof ownOptions>): string {
  return table(
    ['Option', 'Meaning'],
    options.map((option) => [code(option.flags), escapeHtml(optionText(option))]),
  )
}

/** Words of a help text are not Markdown. */
function escapeHtml(words: string): string {
  return words.replaceAll(/[<*_[\]]/g, '\\$&')
}

function upper(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1)
}
