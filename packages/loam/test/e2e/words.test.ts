// Words for a container are data: the program that starts Loam never obeys them.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { byTurns } from '../support/rounds.ts'
import { programPath } from '../support/test-tools.ts'
import { busyboxEntries, type CommandResult, World } from '../support/world.ts'

const LOAM = programPath('loam')
const LOAMD = programPath('loamd')
const CODE = 'data:text/javascript,process._rawDebug("HOST-CODE")'
const ENV_FILE = `x\n\nNODE_OPTIONS=--import=${CODE}\n`
const CONFIG_FILE = JSON.stringify({ nodeOptions: { import: [CODE] } })

describe('words for a container', () => {
  let world: World
  let image: string
  const folder = () => join(world.folder, 'files')

  /** Starts the installed program, as a shell does. */
  function start(program: string, ...args: readonly string[]): CommandResult {
    const places = ['--root', world.root, '--state', join(world.folder, 'state')]
    return spawnSync(program, [...places, ...args], { encoding: 'utf8', cwd: folder(), timeout: 300_000 })
  }

  before(() => {
    world = new World()
    mkdirSync(folder())
    writeFileSync(join(folder(), 'env'), ENV_FILE)
    writeFileSync(join(folder(), 'node.config.json'), CONFIG_FILE)
    const tar = buildTar([
      ...busyboxEntries(['sh', 'echo', 'printf']),
      { name: 'evil.env', data: ENV_FILE },
      { name: 'evil.json', data: CONFIG_FILE },
    ])
    writeOciLayout(join(world.folder, 'layout'), { app: buildImage({ tars: [tar] }) })
    image = `oci:${join(world.folder, 'layout')}:app`
    const layer = join(world.root, 'layers', digestOf(tar))
    assert.equal(start(LOAM, 'provision', '--backend', 'overlay', '--id', 'kept', image).status, 0)
    fromImage = [`--env-file=${layer}/layer.tar`, `--experimental-config-file=${layer}/fs/evil.json`]
    for (const word of fromImage) assert.ok(readFileSync(word.slice(word.indexOf('=') + 1)).length > 0)
  })
  after(() => {
    world.loam('destroy', 'kept')
    world[Symbol.dispose]()
  })

  /** Paths that the author of an image can compute, with content of the author's choice. */
  let fromImage: string[] = []
  const obeyedByNode = (): string[][] => [
    ...['--env-file', '--env-file-if-exists', '--experimental-config-file'].flatMap((flag) => {
      const path = join(folder(), flag.startsWith('--env') ? 'env' : 'node.config.json')
      return [[`${flag}=${path}`], [flag, path]]
    }),
    ['--experimental-default-config-file'],
    ...fromImage.map((word) => [word]),
  ]

  test('words for a container are never obeyed by Node, at any position and with any file', () => {
    const words = obeyedByNode().flat()
    assert.doesNotMatch(start(LOAMD, ...words).stderr, /HOST-CODE/)
    for (const dashes of [[], ['--']]) {
      const { status, stdout, stderr } = start(LOAM, '--quiet', 'run', image, ...dashes, 'echo', ...words)
      assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: `${words.join(' ')}\n`, stderr: '' })
    }
  })

  test('words that Node has obeyed are refused when Loam was started through node', () => {
    for (const [place, [word = '', path = '']] of obeyedByNode().entries()) {
      for (const program of byTurns([LOAM, LOAMD], place)) {
        const clean = path === '' && word.includes('=') ? word.replace(/=.*/, '=/dev/null') : word
        const args = ['--', program, 'run', image, 'echo', clean, ...(path === '' ? [] : [path])]
        const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
        assert.equal(stdout, '')
        assert.notEqual(status, 0)
        if (word.startsWith('--env')) assert.match(stderr, /Node takes this option for its own/)
      }
    }
  })

  test('words for a container arrive unchanged', () => {
    const words = [
      '',
      ' a  b ',
      '$(id)',
      '`id`',
      '"',
      "'",
      '\\',
      '*',
      'x\ny',
      'āŁ\u0081',
      '.',
      '@',
      '-',
      '--',
      '-n',
    ]
    const { stdout, stderr } = start(LOAM, '--quiet', 'run', image, '--', 'printf', '<%s>', ...words)
    assert.equal(stdout, words.map((word) => `<${word}>`).join(''), stderr)
    const many = Array.from({ length: 20_000 }, (_, index) => String(index))
    assert.equal(start(LOAM, '--quiet', 'run', image, 'echo', ...many).stdout, `${many.join(' ')}\n`)
  })
})
