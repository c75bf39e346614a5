// The programs of examples/, each run as its first lines say, and what they do not show of processes with streams.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { isLoamError, openLoam } from '../../src/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { libraryAddress } from '../support/test-tools.ts'
import { busyboxEntries, World } from '../support/world.ts'

const EXAMPLES = fileURLToPath(new URL('../../../../examples', import.meta.url))

describe('the examples', () => {
  let world: World
  let image: string

  const start = (name: string, ...words: readonly string[]) =>
    spawn(process.execPath, [world.path(`examples/${name}`), ...words], {
      cwd: world.folder,
      env: { ...process.env, LOAM_ROOT: world.root, LOAM_STATE: world.state },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  const output = async (name: string, ...words: readonly string[]): Promise<string> => {
    const child = start(name, ...words)
    const [written] = await Promise.all([text(child.stdout), once(child, 'exit')])
    assert.equal(child.exitCode, 0, written)
    return written
  }

  before(() => {
    world = new World()
    cpSync(EXAMPLES, world.path('examples'), { recursive: true })
    mkdirSync(world.path('node_modules'))
    symlinkSync(dirname(fileURLToPath(libraryAddress())), world.path('node_modules/loamfs'))
    const tar = buildTar(busyboxEntries(['sh', 'cat', 'echo', 'id', 'sleep', 'true']))
    const config = { Env: ['PATH=/bin', 'MODE=test'], Cmd: ['sh'] }
    writeOciLayout(world.path('layout'), { app: buildImage({ tars: [tar], config }) })
    image = `oci:${world.path('layout')}:app`
  })
  after(() => {
    world[Symbol.dispose]()
  })

  test('the example of processes reads and writes streams, runs a further process, and sends a signal', async () => {
    assert.deepEqual((await output('processes.ts', image)).split('\n'), [
      'cat said: one line',
      'a further process had number more than 1 and status 3',
      'cat ended with 137',
      '',
    ])
    assert.equal(world.loam('--json', 'ps').stdout, '[]\n')
  })

  test('the example of a server runs each request in a container of its own', async () => {
    const server = start('sandbox-server.ts', image, '0')
    try {
      const [address] = await once(server.stdout, 'data')
      const ask = async (body: string): Promise<unknown> =>
        (await fetch(String(address).trim(), { method: 'POST', body })).json()
      const answers = await Promise.all([ask('echo hello >/x; cat /x'), ask('cat /x; exit 4')])
      assert.deepEqual(answers, [
        { status: 0, stdout: 'hello\n', stderr: '' },
        { status: 4, stdout: '', stderr: "cat: can't open '/x': No such file or directory\n" },
      ])
    } finally {
      server.kill('SIGTERM')
      await once(server, 'exit')
    }
    assert.equal(world.loam('--json', 'ps').stdout, '[]\n')
  })

  test('the examples of many root filesystems, of progress and of the config of an image work', async () => {
    const [many, progress, config] = await Promise.all([
      output('many.ts', image, '5'),
      output('progress.ts', image),
      output('image-config.ts', image),
    ])
    assert.match(many, /^5 root filesystems\nbackend: \w+\n$/)
    assert.match(progress, /^sha256:[0-9a-f]{64} with 1 layers\n$/)
    assert.equal(config, 'layers 1\ncommand ["sh"]\nenvironment PATH=/bin MODE=test\nsteps 0\n')
  })

  test('the example that builds an image writes it to a directory', async () => {
    await output('build.ts', image, world.path('built'))
    const rootfs = world.loam('provision', `oci:${world.path('built')}`).stdout.trim()
    assert.equal(readFileSync(join(rootfs, 'motd'), 'utf8'), 'made by a program\n')
  })

  test('a process that cannot be started is an error of spawn, and leaves no container', async () => {
    await using loam = await openLoam({
      settings: { root: world.root, state: world.state },
      env: process.env,
    })
    const existing = (await loam.containers.list()).length
    await assert.rejects(loam.containers.spawn(image, { command: ['nosuch'] }), (error) =>
      isLoamError(error, 'COMMAND_NOT_FOUND'),
    )
    await assert.rejects(
      loam.containers.spawn(image, { command: ['true'], signal: AbortSignal.abort() }),
      (error) => isLoamError(error, 'CANCELED'),
    )
    assert.equal((await loam.containers.list()).length, existing)
  })

  test('a signal ends a process that was spawned, and the streams that are ignored are empty', async () => {
    await using loam = await openLoam({
      settings: { root: world.root, state: world.state },
      env: process.env,
    })
    const stop = new AbortController()
    const streams = { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' } as const
    const sleeper = await loam.containers.spawn(image, {
      command: ['sleep', '1000'],
      ...streams,
      signal: stop.signal,
    })
    assert.ok(existsSync(`/proc/${sleeper.pid}`))
    stop.abort()
    assert.deepEqual([await sleeper.wait(), await text(sleeper.stdout), sleeper.kill()], [137, '', false])
    const short = await loam.containers.spawn(image, { command: ['true'], ...streams })
    assert.equal(await short.wait(), 0)
  })
})
