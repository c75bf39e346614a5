// `run` by both front doors: each process gets the streams, the signals and the status of its caller.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { isLoamError, openLoam } from 'loamfs'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar } from '../../../loam/src/testing/index.ts'
import { someOf } from '../../../loam/test/support/rounds.ts'
import { busyboxEntries, gather, layoutOf } from '../../../loam/test/support/world.ts'
import { DaemonWorld } from '../support/world.ts'

const PROGRAM = fileURLToPath(new URL('../support/run-container.ts', import.meta.url))
const APPLETS = ['sh', 'cat', 'sleep', 'echo']

for (const door of ['library', 'daemon']) {
  describe(`run by the ${door}`, () => {
    let world: DaemonWorld
    let image: string

    before(async () => {
      world = new DaemonWorld()
      image = layoutOf(world, buildImage({ tars: [buildTar(busyboxEntries(APPLETS))] }))
      if (door === 'daemon') await world.startDaemon()
    })
    after(async () => world[Symbol.asyncDispose]())

    const start = (options: object): ChildProcess => {
      const args = [PROGRAM, door, world.root, world.state, image, JSON.stringify(options)]
      return spawn(process.execPath, args, { stdio: 'pipe', env: { ...process.env, MINE: 'of the caller' } })
    }

    const nothingIsLeft = async () => {
      await using loam = await openLoam({ flags: { root: world.root, state: world.state }, env: process.env })
      assert.deepEqual(await loam.containers.list(), [])
      for (const name of ['bundles', 'runtime'])
        if (existsSync(`${world.state}/${name}`)) assert.deepEqual(readdirSync(`${world.state}/${name}`), [])
    }

    const run = async (options: object, input = '') => {
      const child = start(options)
      child.stdin?.end(input)
      const [stdout, stderr] = [gather(child.stdout!), gather(child.stderr!)]
      const [status] = (await once(child, 'close')) as [number | null]
      return { status, stdout: stdout(), stderr: stderr() }
    }

    test('a process has the streams and the environment of its caller, and its status is returned', async () => {
      const script = 'cat; echo "$MINE"; echo told >&2; exit 7'
      const ended = await run({ command: ['sh', '-c', script], env: ['MINE'], id: 'one' }, 'typed\n')
      assert.deepEqual(ended, { status: 7, stdout: 'typed\nof the caller\n', stderr: 'told\n' })
      await nothingIsLeft()
    })

    test('failures have their codes, before the process and at its start', async () => {
      const failures = [
        [{ command: ['missing'] }, 'COMMAND_NOT_FOUND'],
        [{ command: ['sh'], id: '../x' }, 'ID_INVALID'],
        [{ command: ['sh'], env: ['NOT_SET_ANYWHERE'] }, 'USAGE'],
        [{ command: ['sh'], capAdd: ['NONSENSE'] }, 'USAGE'],
      ] as const
      for (const [options, code] of someOf(failures, 2)) {
        const { status, stderr } = await run(options)
        assert.deepEqual([status, stderr.trim().split('\n').at(-1)], [99, code], stderr)
      }
      await nothingIsLeft()
    })

    if (door === 'daemon')
      test('a process whose daemon is killed goes on, its status is returned, and the next daemon removes its container', async () => {
        const child = start({ command: ['sh', '-c', 'echo ready; cat; exit 5'] })
        await once(child.stdout!, 'data')
        await world.stop('loamd', 'SIGKILL')
        child.stdin?.end()
        await world.startDaemon()
        const [status] = (await once(child, 'close')) as [number | null]
        assert.equal(status, 5)
        await nothingIsLeft()
      })

    if (door === 'daemon')
      test('a run that is canceled while the start is on its way leaves no container', async () => {
        const stop = new AbortController()
        const path = world.path('between.sock')
        const sockets = new Set<Socket>()
        const between = createServer((client) => {
          const server = connect(world.apiSocket)
          for (const each of [client, server]) sockets.add(each.on('error', () => undefined))
          client.pipe(server)
          server.on('data', (chunk) => {
            if (chunk.includes('"kind":"start"')) stop.abort()
            // The client has seen its signal by then.
            setImmediate(() => client.write(chunk))
          })
        }).listen(path)
        try {
          await once(between, 'listening')
          await using loam = await connectLoam({ socket: path })
          const running = loam.run(image, {
            command: ['sh', '-c', 'exit 0'],
            id: 'mine',
            signal: stop.signal,
          })
          await assert.rejects(running, (error) => isLoamError(error, 'CANCELED'))
          await nothingIsLeft()
        } finally {
          between.close()
          for (const socket of sockets) socket.destroy()
        }
      })

    test('signals reach the process', async () => {
      const child = start({
        command: ['sh', '-c', 'trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'],
      })
      await once(child.stdout!, 'data')
      child.kill('SIGTERM')
      const [status] = (await once(child, 'close')) as [number | null]
      assert.equal(status, 3)
      await nothingIsLeft()
    })
  })
}
