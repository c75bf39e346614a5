import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Command } from 'commander'
import { translateWords } from './command-aliases.ts'
import { hostWords, moveOptions, ownWords, translatePull } from './command-line.ts'
import { OTHER_PAIRS, OTHER_WORDS } from './other-commands.ts'
import { createProgram } from './program.ts'
import { processHost } from './process-host.ts'
import { addSettingOptions } from './setting-options.ts'
import { editDistance } from '../errors/index.ts'
import { unknownCommand } from './usage-error.ts'

const NAMES = [
  'pull',
  'put',
  'push',
  'run',
  'ps',
  'images',
  'rmi',
  'destroy',
  'prune',
  'gc',
  'recover',
  'export',
  'df',
  'config',
]

function program(): Command {
  const loam = new Command('loam').option('--root <dir>').option('--json')
  for (const name of NAMES) loam.command(name).option('--root <dir>').option('--json')
  for (const command of loam.commands.filter((each) => ['pull', 'run'].includes(each.name())))
    command.option('--insecure <host>').option('--pull')
  loam.commands
    .find((each) => each.name() === 'run')
    ?.option('-u, --user <user>')
    .option('-i')
    .option('-t')
  addSettingOptions(loam)
  return loam
}

describe('a command line', () => {
  test('the options of a command may stand before its name', () => {
    for (const [line, moved] of [
      ['--insecure H pull x', 'pull --insecure H x'],
      ['--root R --insecure=H --json pull x', '--root R --json pull --insecure=H x'],
      ['--pull run x --insecure y', 'run --pull x --insecure y'],
      ['--docker_registry /x run y', '--docker_registry /x run y'],
      ['--switch-user run y', '--switch-user run y'],
      ['--insecure', '--insecure'],
      ['-- --insecure pull', '-- --insecure pull'],
      ['', ''],
    ] as const)
      assert.equal(moveOptions(program(), line.split(' ')).join(' '), moved, line)
  })

  test('the options of `loam run` end at the image', () => {
    for (const [line, own, host] of [
      ['run --json x --quiet', 'run --json', 'run --json x'],
      ['run x --json', 'run', 'run x'],
      ['run --pull x --json', 'run --pull', 'run --pull x'],
      [
        'run --insecure h --no-docker-ignore-runtime x -',
        'run --insecure h --no-docker-ignore-runtime',
        undefined,
      ],
      ['run --docker_registry /srv -- x --json', 'run --docker_registry /srv', undefined],
      ['--root run ps --json', '--root run ps --json', undefined],
      ['--json run x', '--json run', undefined],
      ['pull --json x', 'pull --json x', undefined],
      ['put -- - x', 'put', 'put -- - x'],
      ['run -it x --json', 'run -it', 'run -it x'],
      ['run -itu root x --json', 'run -itu root', 'run -itu root x'],
      ['run -itu0 x --json', 'run -itu0', 'run -itu0 x'],
      ['run -u 0 x --json', 'run -u 0', 'run -u 0 x'],
      ['--json', '--json', undefined],
    ] as const) {
      assert.equal(ownWords(program(), line.split(' ')).join(' '), own, line)
      if (host !== undefined) assert.equal(hostWords(program(), line.split(' ')).join(' '), host)
    }
  })

  test('the policies of --pull are those of docker and podman, and the words of a container stay as they are', () => {
    for (const [line, own] of [
      ['run --pull always x', 'run --pull x'],
      ['run --pull=newer -u 0 x --pull=always', 'run --pull -u 0 x --pull=always'],
      ['run --pull missing x --pull always', 'run x --pull always'],
      ['run --pull never x', 'run --pull=never x'],
      ['run --pull x', 'run --pull x'],
      ['pull always', 'pull always'],
    ] as const)
      assert.equal(translatePull(program(), line.split(' ')).join(' '), own, line)
  })

  test('the client of the daemon knows the options of `loam run` that take no value', () => {
    const source = readFileSync(new URL('../../bin/loam.cjs', import.meta.url), 'utf8')
    const [, list = ''] = /const FLAGS =\s*'([^']*)'/.exec(source) ?? []
    const known = list.split(' ')
    const whole = createProgram('1', processHost(), () => undefined)
    const run = whole.commands.find((command) => command.name() === 'run')
    const flags = [...whole.options, ...(run?.options ?? [])].filter(({ required }) => !required)
    const names = flags.flatMap(({ short, long }) => [short, long]).filter((name) => name !== undefined)
    const plain = names.map((name) => name.replace(/^-+/, '').replaceAll('-', '_'))
    assert.deepEqual(new Set(known), new Set([...plain, 'help', 'h']))
  })
})

describe('a mistyped command', () => {
  const hintOf = (word: string) => unknownCommand(word.split(' '), program()).hint ?? ''

  test('a mistyped command never suggests one that removes data', () => {
    const slips = [
      'destory',
      'destro',
      'destroyy',
      'rmj',
      'rim',
      'prun',
      'prne',
      'pruen',
      'gcc',
      'g',
      'recovr',
      'unexprt',
      'loguot',
      'rcover',
      'history',
      'comit',
      'move',
    ]
    for (const word of slips)
      assert.doesNotMatch(hintOf(word), /destroy|rmi|prune|gc|recover|unexport|logout/, word)
  })

  test('a mistyped command, or one of another tool, suggests the right one', () => {
    for (const [word, name] of [
      ['plul', 'pull'],
      ['exprt', 'export'],
      ['imags', 'images'],
      ['cofnig', 'config'],
    ] as const)
      assert.match(hintOf(word), new RegExp(`Did you mean ${name}\\?`), word)
    for (const [word, answer] of [
      ['build', /podman build/],
      ['list-tags', /loam tags/],
    ] as const) {
      assert.match(hintOf(word), answer)
      assert.doesNotMatch(hintOf(word), /Did you mean/)
    }
    for (const word of ['', 'nope', 'toString', '__proto__'])
      assert.equal(hintOf(word), '`loam --help` lists the commands.')
  })

  test('of the groups of docker and podman the second word says what is meant, and only exact words name a command that removes data', () => {
    for (const [line, answer] of [
      ['image build .', /podman build/],
      ['image config x', /`loam config`/],
      ['image pul x', /Did you mean image pull\?/],
      ['container stp web', /`loam ps` lists containers/],
      ['image remov x', /`loam images` lists images/],
      ['image toString', /`loam images` lists images/],
      ['system -a', /`loam df` shows disk usage/],
    ] as const)
      assert.match(hintOf(line), answer, line)
  })

  test('the answers for words of other tools name commands that Loam has', () => {
    const whole = createProgram('1', processHost(), () => undefined)
    const texts = [OTHER_WORDS, ...Object.values(OTHER_PAIRS)].flatMap((table) => Object.values(table))
    for (const [, line = ''] of texts.join().matchAll(/`(loam [^`]*)`/g)) {
      const [word = ''] = translateWords(line.split(' ').slice(1), 0)
      const isKnown =
        word.startsWith('--') || line.includes('|') || whole.commands.some((each) => each.name() === word)
      assert.ok(isKnown, line)
    }
  })

  test('the distance of a mistyped command counts missing, added, changed and swapped letters', () => {
    for (const [from, to, distance] of [
      ['', 'abc', 3],
      ['abc', 'abc', 0],
      ['acb', 'abc', 1],
      ['ab', 'abc', 1],
      ['axc', 'abc', 1],
      ['cab', 'abc', 2],
    ] as const)
      assert.equal(editDistance(from, to), distance, `${from} ${to}`)
  })
})
