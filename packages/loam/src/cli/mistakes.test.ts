// What the command says about the mistakes that its users make: what was attempted, what happened, and what to type next.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { captureHost } from '../../test/support/captured-host.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'
import { runCommandLine } from './main.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-mistakes-'))

/** Runs a command in the folder, and returns its status and what it says. */
async function run(...args: readonly string[]): Promise<{ status: number; stderr: string }> {
  const host = captureHost(folder)
  const status = await runCommandLine(['--root', './store', '--state', './state', ...args], '1', host)
  return { status, stderr: host.said.stderr }
}

before(async () => {
  writeOciLayout(join(folder, 'layout'), {
    x: buildImage({ tars: [buildTar([{ name: 'a/b', data: 'b' }])] }),
  })
  mkdirSync(join(folder, 'empty'))
  writeFileSync(join(folder, 'image.tar'), '')
  writeFileSync(join(folder, 'bad.toml'), 'registry_tries = 3\nroot = \n')
  writeFileSync(join(folder, 'typo.toml'), '\nrot = "/x"\n')
  assert.equal((await run('put', 'oci:layout:x', 'localhost:5071/busybox:1.38')).status, 0)
})

after(() => {
  rmSync(folder, { recursive: true })
})

const MISTAKES: readonly (readonly [what: string, words: readonly string[], says: RegExp])[] = [
  ['an address of a web page', ['pull', 'https://host/x'], /Leave out https:\/\//],
  ['a short digest', ['pull', 'a/b@sha256:1cfa'], /A digest is sha256: and 64 hexadecimal digits/],
  ['a layout without its transport', ['pull', './layout'], /Did you mean oci:\.\/layout\?/],
  ['an archive without its transport', ['pull', './image.tar'], /Did you mean docker-archive:\.\/image\.tar/],
  ['a directory of something else', ['pull', './empty'], /without an OCI layout/],
  ['a file that is not there', ['pull', './none.tar'], /There is no file \.\/none\.tar/],
  ['a name without its registry', ['inspect', 'busybox'], /Did you mean localhost:5071\/busybox:1\.38\?/],
  ['a slip in a name', ['history', 'localhost:5071/busibox'], /Did you mean localhost:5071\/busybox:1\.38\?/],
  [
    'a slip in a setting',
    ['--config', 'typo.toml', 'images'],
    /typo\.toml, line 2: unknown .*\n.*mean root\?/,
  ],
  [
    'a file that is not TOML',
    ['--config', 'bad.toml', 'images'],
    /bad\.toml: line 2, column \d+: .*"root ="/,
  ],
  ['a file that is not there', ['--config', 'no.toml', 'images'], /read no\.toml: no such file\nhint: /],
  ['a slip in an option with a value', ['images', '--rooot=/x'], /Did you mean --root\?/],
  [
    'an output that says no format',
    ['export', 'localhost:5071/busybox:1.38', 'x.foo'],
    /Name one by --format/,
  ],
  [
    'a path that is not in the image',
    ['du', 'localhost:5071/busybox:1.38', '/a/c'],
    /`loam du localhost:5071\/busybox:1\.38 \/a` lists/,
  ],
  ['an option of docker inspect', ['inspect', '-s', 'busybox'], /hint: `loam df` shows the disk space/],
  ['an option of docker ps', ['ps', '--size'], /hint: `loam df` shows the disk space/],
  ['an option of docker logs', ['logs', '--since', '1h', 'web'], /hint: Loam keeps no times of the lines/],
  ['a short option of docker logs', ['logs', '-t', 'web'], /hint: Loam keeps no times of the lines/],
  ['an option of docker prune', ['prune', '--volumes'], /hint: Loam has no volumes of its own/],
  ['an option of docker start', ['start', '-a', 'web'], /hint: `loam logs -f` follows/],
  ['a filter of docker images', ['images', '--filter', 'label=x'], /Labels}}' IMAGE` shows .* There are ref/],
  ['a filter of time', ['images', '--filter', 'until=24h'], /`before=IMAGE` lists/],
  [
    'all that podman prunes',
    ['system', 'prune', '-a'],
    /unknown command 'system prune'\nhint: `loam prune` removes/,
  ],
  ['images that docker prunes', ['image', 'prune'], /unknown command 'image prune'\nhint: `loam prune`/],
  ['containers that docker prunes', ['container', 'prune'], /hint: `loam rm /],
  ['a question of podman', ['container', 'exists', 'x'], /'container exists'\nhint: `loam inspect --type c/],
  ['a volume of docker', ['volume', 'ls'], /unknown command 'volume ls'\nhint: Loam has no named volumes/],
  ['an option of a volume', ['volume', 'rm', '-f', 'x'], /'volume rm'\nhint: Loam has no named volumes/],
  ['help for words of podman', ['help', 'system', 'prune'], /unknown command 'system prune'\nhint: /],
  [
    'help for a volume of docker',
    ['help', 'volume', 'ls'],
    /'volume ls'\nhint: Loam has no named volumes.*`loam --help`/,
  ],
  ['help for an argument', ['help', 'pull', 'x'], /'x'\nhint: `loam pull --help` lists the options\./],
  ['several images where bytes are meant', ['inspect', '--raw', 'a', 'b'], /hint: /],
  ['an image alone', ['diff', 'localhost:5071/busybox:1.38'], /a second image or container is missing/],
]

for (const [index, [what, words, says]] of MISTAKES.entries())
  test(`mistake ${index + 1}, ${what}, is answered with what to type next`, async () => {
    const { status, stderr } = await run(...words)
    assert.notEqual(status, 0)
    assert.match(stderr, says)
    // A message and a hint, each one line.
    assert.equal(stderr.trimEnd().split('\n').length, 2, stderr)
  })

test('the ending of an output says its format, and a file is measured like a directory', async () => {
  assert.equal((await run('export', 'localhost:5071/busybox:1.38', 'x.tar')).status, 0)
  const host = captureHost(folder)
  const words = ['--root', './store', '--state', './state', 'du', 'localhost:5071/busybox:1.38', 'a/b']
  assert.equal(await runCommandLine(words, '1', host), 0)
  assert.equal(host.said.stdout, '     1 B  /a/b\n')
})

test('in a removed directory a command works that needs no directory, and a relative path fails with a message', () => {
  const program = join(import.meta.dirname, '../../bin/loam.cjs')
  const script = 'mkdir "$0/gone"; cd "$0/gone"; rmdir "$0/gone"; exec "$@"'
  const place = ['--root', join(folder, 'own-store'), '--state', join(folder, 'own-state')]
  const call = (...words: readonly string[]) =>
    spawnSync('sh', ['-c', script, folder, process.execPath, program, ...place, ...words], {
      encoding: 'utf8',
    })
  assert.deepEqual([call('ps').status, call('ps').stderr], [0, ''])
  const { status, stderr } = call('-q', 'pull', 'oci:relative')
  assert.equal(status, 1)
  assert.match(stderr, /: the working directory was removed\nhint: Change to a directory that exists\.\n$/)
})
