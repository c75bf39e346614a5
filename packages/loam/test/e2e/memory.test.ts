// The memory of loam and loamd is protected from other processes.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { World } from '../support/world.ts'

const LOAM = fileURLToPath(new URL('../../bin/loam.cjs', import.meta.url))
const LOAMD = fileURLToPath(new URL('../../../loamd/bin/loamd.js', import.meta.url))

describe('a process that holds tokens', () => {
  let world: World
  const folder = () => join(world.folder, 'cores')

  before(() => {
    world = new World()
    mkdirSync(folder())
  })
  after(() => {
    world[Symbol.dispose]()
  })

  /** Starts a program without a limit on core dumps. */
  const start = (program: string, ...args: readonly string[]) => {
    const places = ['--root', world.root, '--state', join(world.folder, 'state')]
    const child = spawn(
      '/bin/sh',
      ['-c', 'ulimit -c unlimited && exec "$@"', 'sh', program, ...places, ...args],
      {
        cwd: folder(),
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')))
    return { child, said: () => said }
  }

  const crash = async (child: ChildProcess) => {
    const ended = once(child, 'close')
    child.kill('SIGUSR1')
    await sleep(300)
    child.kill('SIGSEGV')
    assert.deepEqual(await ended, [null, 'SIGSEGV'])
    assert.deepEqual(readdirSync(folder()), [])
  }

  test("loam with a registry's token leaves no core dump and opens no debugger", async () => {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
    const { child, said } = start(LOAM, 'pull', `${host}/a/b`)
    const [socket] = await once(server, 'connection')
    socket.on('error', () => undefined)
    await crash(child)
    assert.equal(said(), '')
    server.close()
  })

  test('loamd leaves no core dump and opens no debugger', async () => {
    const socket = join(world.folder, 'loamd.sock')
    const { child, said } = start(LOAMD, '--grpc-socket', socket)
    while (!existsSync(socket) && child.exitCode === null) await sleep(50)
    await crash(child)
    assert.doesNotMatch(said(), /ebugger/)
  })
})
