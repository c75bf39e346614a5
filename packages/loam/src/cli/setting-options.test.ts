import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Command } from 'commander'
import * as fc from 'fast-check'
import { SETTING_ALIASES, SETTING_NAMES, type SettingName, SETTINGS } from '../config/index.ts'
import { moveOptions } from './command-line.ts'
import { processHost } from './process-host.ts'
import { createProgram } from './program.ts'
import { settingsOf } from './setting-options.ts'

interface Parsed {
  readonly args: readonly string[]
  readonly json: boolean
  readonly settings: Readonly<Record<string, string>>
}

/** Parses a command line with actions that do nothing. */
function parse(...args: readonly string[]): Parsed {
  const program = createProgram('1', processHost(), () => undefined)
  let parsed: Parsed | undefined
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    if (command.commands.length > 0) continue
    command.action((...given: readonly unknown[]) => {
      const current = given.at(-1) as Command
      parsed = { args: current.args, json: current.opts()['json'] === true, settings: settingsOf(current) }
    })
  }
  program.parse([...moveOptions(program, args)], { from: 'user' })
  assert.ok(parsed)
  return parsed
}

const isFlag = (name: SettingName) => typeof SETTINGS[name].defaultValue === 'boolean'

/** One way to write a setting: its words, its name, and its value. */
const settingWords = fc
  .constantFrom(...SETTING_NAMES, ...Object.keys(SETTING_ALIASES))
  .filter((word) => !['root', 'state'].includes(word))
  .chain((word) => {
    const name = SETTING_ALIASES[word] ?? (word as SettingName)
    const spelled = fc.constantFrom(word, word.replaceAll('_', '-'))
    const value = fc.constantFrom('v', '', '-x', '--json', '/a=b', 'true', 'pull')
    return fc.tuple(spelled, value, fc.boolean()).map(([text, given, isJoined]) => {
      if (isJoined) return { name, words: [`--${text}=${given}`], value: given }
      if (!isFlag(name)) return { name, words: [`--${text}`, given], value: given }
      const isTrue = given === 'true'
      return { name, words: [isTrue ? `--${text}` : `--no-${text}`], value: String(isTrue) }
    })
  })

describe('settings on the command line', () => {
  test('settings may be anywhere on the command line, in every spelling, and do not affect the rest of it', () => {
    const lines = fc.constantFrom<{ words: readonly string[]; ends: number; args: readonly string[] }>(
      { words: ['pull', 'x'], ends: 2, args: ['x'] },
      { words: ['--json', 'snapshot', 'diff', 'k', 'o'], ends: 5, args: ['k', 'o'] },
      { words: ['run', 'x', 'sh', '--switch_user'], ends: 1, args: ['x', 'sh', '--switch_user'] },
      { words: ['rmi', 'a', '--', '--docker_registry'], ends: 2, args: ['a', '--docker_registry'] },
    )
    const extras = fc.array(fc.tuple(settingWords, fc.double({ min: 0, max: 1, noNaN: true })), {
      maxLength: 5,
    })
    fc.assert(
      fc.property(lines, extras, ({ words, ends, args }, settings) => {
        const placed = settings
          .map(([setting, at]) => ({ ...setting, at: Math.round(at * ends) }))
          .toSorted((a, b) => a.at - b.at)
        const line = words.flatMap((word, index) => [
          ...placed.filter(({ at }) => at === index).flatMap((each) => each.words),
          word,
        ])
        line.splice(
          line.length - words.length + ends,
          0,
          ...placed.filter(({ at }) => at >= words.length).flatMap((each) => each.words),
        )
        const parsed = parse(...line)
        assert.deepEqual(
          parsed,
          {
            args,
            json: words.includes('--json'),
            settings: Object.fromEntries(placed.map(({ name, value }) => [name, value])),
          },
          line.join(' '),
        )
      }),
      { numRuns: 60 },
    )
  })

  test('a flag takes its value only after an equals sign, and not from the next word', () => {
    assert.deepEqual(parse('pull', '--switch_user', 'x').settings, { switch_user: 'true' })
    assert.deepEqual(parse('pull', '--switch-user=false', 'x').settings, { switch_user: 'false' })
    assert.deepEqual(parse('--no_switch_user', 'pull', 'x').settings, { switch_user: 'false' })
    assert.throws(() => parse('pull', '--no-switch_user=true', 'x'), { message: /unknown option/ })
  })

  test('a setting without its value is a usage error, and the error for an unknown option suggests a similar one', () => {
    assert.throws(() => parse('pull', 'x', '--docker_registry'), {
      code: 'USAGE',
      message: 'read --docker_registry: it needs a value',
    })
    assert.throws(() => parse('pull', '--platfrom', 'linux/arm64', 'x'), {
      code: 'USAGE',
      hint: /--platform/,
    })
  })

  test('the help lists no settings but root and state', () => {
    const program = createProgram('1', processHost(), () => undefined)
    assert.match(program.helpInformation(), /--root/)
    assert.doesNotMatch(program.helpInformation(), /docker_registry/)
  })
})
