// The tutorials of docs/tutorials: each command is run, and its output is what the page shows.
import assert from 'node:assert/strict'
import { chmodSync, globSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { buildImage, buildTar } from '../../src/testing/index.ts'
import { type ConsoleSurroundings, fitsOutput, parseConsole, runConsole } from '../support/console-page.ts'
import { TestDaemon } from '../support/test-daemon.ts'
import { programPath } from '../support/test-tools.ts'
import { busyboxEntries, DebianRegistry, layoutOf, ok, World } from '../support/world.ts'

const PAGES = fileURLToPath(new URL('../../../../docs/tutorials', import.meta.url))
const APPLETS = ['sh', 'cat', 'echo', 'id', 'sleep', 'ls']
const OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'

/** Images that the pages name. */
function imagesOfPages(): Record<string, ReturnType<typeof buildImage>> {
  const config = { Env: ['PATH=/bin'], Cmd: ['sh'] }
  const base = buildTar([
    ...busyboxEntries(APPLETS),
    { name: 'etc/' },
    { name: 'etc/os-release', data: OS_RELEASE },
  ])
  const app = (version: string) => {
    const top = buildTar([
      { name: 'etc/', type: 'directory' },
      { name: 'etc/release', data: `${version}\n` },
    ])
    return buildImage({ tars: [base, top], config })
  }
  return { 'debian:12': buildImage({ tars: [base], config }), 'app:1': app('one'), 'app:2': app('two') }
}

describe('the tutorials', () => {
  const started = new DisposableStack()
  let surroundings: ConsoleSurroundings

  before(async () => {
    const registry = started.use(await DebianRegistry.start())
    const world = started.use(new World())
    for (const [name, image] of Object.entries(imagesOfPages())) {
      const layout = layoutOf(world, image, name.replace(':', '-'))
      ok(world.loam('copy', layout, `${registry.host}/${name}`))
    }
    // The daemon has the settings of its own environment.
    process.env['LOAM_DOCKER_REGISTRY'] = `http://${registry.host}`
    started.defer(() => delete process.env['LOAM_DOCKER_REGISTRY'])
    // With a daemon the commands start fast; other tests show that they do the same without it.
    started.use(new TestDaemon(world.folder, world.root, world.state))
    const programs = world.path('programs')
    mkdirSync(programs)
    const loam = `exec ${process.execPath} -- ${programPath('loam')} --progress=none "$@"`
    writeFileSync(join(programs, 'loam'), `#!/bin/sh\n${loam}\n`)
    chmodSync(join(programs, 'loam'), 0o755)
    surroundings = {
      cwd: world.folder,
      env: {
        PATH: `${programs}:${process.env['PATH'] ?? ''}`,
        LOAM_ROOT: world.root,
        LOAM_STATE: world.state,
      },
      replaced: {
        'localhost:5000': registry.host,
        '/run/loam/': `${world.state}/`,
        'docker.io/library/': `${registry.host}/`,
      },
    }
  })
  after(() => {
    started.dispose()
  })

  for (const name of globSync('*.md', { cwd: PAGES }).toSorted()) {
    test(`the commands of ${name} print what the page shows`, () => {
      assert.equal(runConsole(join(PAGES, name), surroundings).join('\n'), '')
    })
  }
})

test('an output of a page fits with other text where the page has an ellipsis', () => {
  assert.deepEqual(
    [
      fitsOutput(['sha256:…', '…', 'end'], 'sha256:12\na\nb\nend\n'),
      fitsOutput(['a (b)'], 'a (b)\n'),
      fitsOutput([], ''),
      fitsOutput(['a'], 'b\n'),
      fitsOutput([], 'a\n'),
    ],
    [true, true, true, false, false],
  )
})

test('commands of a page are read with their continuations and outputs', () => {
  assert.deepEqual(parseConsole('x\n```console\n$ a \\\n> b\nout\n$ c\n```\n```sh\nd\n```'), [
    { line: 3, command: 'a \\\nb', output: ['out'] },
    { line: 6, command: 'c', output: [] },
  ])
})
