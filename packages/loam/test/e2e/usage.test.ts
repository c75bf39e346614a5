// The answers to a wrong command line, as text and as JSON.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { World } from '../support/world.ts'

describe('a wrong command line', () => {
  let world: World
  before(() => {
    world = new World()
  })
  after(() => {
    world[Symbol.dispose]()
  })

  test('a wrong command line gives one JSON object on standard error if --json is among its own words', () => {
    for (const [status, ...args] of [
      [2, '--json', 'nope'],
      [2, 'nope', '--json'],
      [2, '--json'],
      [2, '--json', 'snapshot'],
      [2, '--json', 'snapshot', 'nope'],
      [2, '--json', 'help', 'nope'],
      [2, 'pull', '--nope', '--json', 'x'],
      [2, 'pull', '--json'],
      [2, 'push', '--json', 'a', 'b', 'c'],
      [2, 'pull', '--json', '--platform'],
      [2, 'pull', '--json', '--image-type', 'nope', 'x'],
      [2, 'export', '--json', '--format', 'oci', '--size', 'huge', 'x', 'y'],
      [2, 'volume', '--json', 'x=/y'],
      [2, '--json', '--fetcher_stall_timeout=30q', 'images'],
      [2, '--json', 'images', '--docker_registry'],
      [125, 'run', '--json'],
      [125, '--json', 'run', '--nope', 'x'],
    ] as const) {
      const result = world.loam(...args)
      assert.deepEqual([result.status, result.stdout], [status, ''], args.join(' '))
      const { error } = JSON.parse(result.stderr)
      assert.match(error.code, /^(?:USAGE|CONFIG_INVALID)$/, args.join(' '))
    }
    // A container's own words have no meaning for Loam.
    assert.match(world.loam('run', 'X', '--json').stderr, /^loam: /)
  })

  test('a wrong command line gives the help of its command, and unknown variables are a warning', () => {
    assert.match(
      world.loam('pull').stderr,
      /^loam: missing required argument 'image'\nhint: `loam pull --help`/,
    )
    assert.match(world.loam('help', 'nosuch').stderr, /unknown command 'nosuch'/)
    assert.match(world.loam('help', 'snapshot', 'commit').stdout, /^Usage: loam snapshot commit/)
    assert.match(world.loam().stderr, /^Usage: loam /)
    const { status, stderr } = world.loamWith({ LOAM_ROOTT: '/x' }, 'images')
    assert.deepEqual(
      [status, stderr],
      [0, 'loam: warning: the variable LOAM_ROOTT has no effect: unknown setting\n'],
    )
    const missing = world.loam('pull', '--certs-dir', '/nowhere', '127.0.0.1:1/x')
    assert.match(missing.stderr, /^note: the directory of certificates \/nowhere does not exist\n/m)
  })
})
