// A caller that cancels gets CANCELED, whatever the call waits for and whatever the reason is; and no other caller does.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError, openLoam } from '../../src/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { byTurns, someOf } from '../support/rounds.ts'
import { gather, World } from '../support/world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'f', data: Buffer.alloc(3 << 20, 'x') }])] })

/** Steps at which a registry stops sending. */
const STAGES: Readonly<Record<string, (request: IncomingMessage, response: ServerResponse) => boolean>> = {
  'the first answer': () => true,
  'a manifest': ({ url = '' }) => url.includes('/manifests/'),
  'a config': ({ url = '' }) => url.endsWith(image.config.digest),
  'a layer': ({ url = '' }) => url.endsWith(image.layers[0]?.digest ?? ''),
  'the rest of a layer': ({ url = '' }, response) => {
    if (!url.endsWith(image.layers[0]?.digest ?? '')) return false
    const { bytes } = image.layers[0] ?? { bytes: Buffer.alloc(0) }
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 1000))
    return true
  },
  'a token': (request, response) => {
    if (request.url?.startsWith('/token') === true) return true
    const realm = `http://${request.headers.host}/token`
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` }).end()
    return true
  },
  'the next try': (_request, response) => {
    response.writeHead(503, { 'retry-after': '30' }).end()
    return true
  },
}

const REASONS: Readonly<Record<string, () => AbortSignal>> = {
  nothing: () =>
    abortSoon((controller) => {
      controller.abort()
    }),
  text: () =>
    abortSoon((controller) => {
      controller.abort('stop it')
    }),
  'an error of the caller': () =>
    abortSoon((controller) => {
      controller.abort(Object.assign(new Error('mine'), { code: 'ECONNRESET' }))
    }),
  'a timeout': () => AbortSignal.timeout(300),
}

function abortSoon(abort: (controller: AbortController) => void): AbortSignal {
  const controller = new AbortController()
  setTimeout(() => {
    abort(controller)
  }, 300)
  return controller.signal
}

async function open(world: World) {
  const flags = { root: world.root, state: join(world.folder, 'state') }
  return openLoam({ file: null, flags, env: process.env })
}

describe('cancellation', () => {
  for (const [place, [stage, intercept]] of Object.entries(STAGES).entries()) {
    test(`a pull that is canceled while ${stage} is awaited ends with CANCELED and the reason as the cause`, async () => {
      using world = new World()
      await using registry = await RegistryServer.start()
      registry.addImage('app', '1', image)
      registry.intercept = intercept
      await using loam = await open(world)
      for (const [reason, makeSignal] of byTurns(Object.entries(REASONS), place)) {
        const signal = makeSignal()
        const begun = Date.now()
        await assert.rejects(loam.pull(`${registry.host}/app:1`, { signal }), (error) => {
          assert.ok(isLoamError(error), String(error))
          assert.deepEqual(
            [error.code, error.kind, error.cause === signal.reason],
            ['CANCELED', 'canceled', true],
            reason,
          )
          return true
        })
        assert.ok(Date.now() - begun < 30_000, `${reason}: it took ${Date.now() - begun} ms`)
      }
    })
  }

  test('every operation of the library that takes a signal ends with CANCELED, also when it has fired before', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', image)
    registry.intercept = ({ url = '' }) => url.includes('/blobs/')
    await using loam = await open(world)
    const name = `${registry.host}/app:1`
    const operations: Readonly<Record<string, (signal: AbortSignal) => Promise<unknown>>> = {
      pull: async (signal) => loam.pull(name, { signal }),
      put: async (signal) =>
        loam.images.put(`http://${registry.host}/v2/app/blobs/x`, name, {
          signal,
          insecure: [registry.host],
        }),
      provision: async (signal) => loam.provision(name, { signal }),
      run: async (signal) => loam.run(name, { signal, command: ['true'] }),
      export: async (signal) =>
        loam.export(name, { format: 'tar', output: join(world.folder, 'out.tar'), signal }),
      volumes: async (signal) =>
        loam.containers.provisionVolumes([{ image: name, target: '/proc' }], { id: 'v', signal }),
      commit: async (signal) => loam.images.commit('x', 'y', { base: name, signal }),
    }
    for (const [operation, act] of Object.entries(operations)) {
      for (const signal of [
        abortSoon((controller) => {
          controller.abort('stop it')
        }),
        AbortSignal.abort('stop it'),
      ]) {
        await assert.rejects(act(signal), (error) => {
          assert.ok(isLoamError(error), `${operation}: ${String(error)}`)
          assert.deepEqual(
            [error.code, error.cause],
            ['CANCELED', 'stop it'],
            `${operation}: ${error.message}`,
          )
          return true
        })
      }
    }
    assert.deepEqual([await loam.containers.list(), world.mounts()], [[], []])
  })

  const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const kills = [
    { command: ['provision', '--id', 'c'], stage: 'a layer', index: 0 },
    { command: ['run', '--id', 'd'], stage: 'the rest of a layer', index: 1 },
    ...Object.keys(STAGES)
      .map((stage, index) => ({ command: ['pull'], stage, index }))
      .toReversed(),
  ]
  for (const { command, stage, index } of someOf(kills, 4)) {
    const name = SIGNALS[index % SIGNALS.length] ?? 'SIGINT'
    test(`loam ${command[0]} ends with 130 on ${name} while ${stage} is awaited`, async () => {
      using world = new World()
      await using registry = await RegistryServer.start()
      registry.addImage('app', '1', image)
      const asked = Promise.withResolvers<void>()
      registry.intercept = (request, response) => {
        const isMet = STAGES[stage]?.(request, response) ?? false
        if (isMet) asked.resolve()
        return isMet
      }
      const child = spawn(process.execPath, world.args('--json', ...command, `${registry.host}/app:1`))
      const stderr = gather(child.stderr)
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
      await Promise.race([asked.promise, ended])
      await sleep(100)
      child.kill(name)
      assert.equal(await ended, 130, stderr())
      assert.equal(JSON.parse(stderr()).error.code, 'CANCELED')
      assert.deepEqual([world.mounts(), world.leftovers()], [[], []])
    })
  }
})

test('a refusal of a proxy is not reported as canceled', async () => {
  using world = new World()
  const proxy = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n')
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  try {
    const { port } = proxy.address() as { port: number }
    const env = {
      HTTPS_PROXY: `http://127.0.0.1:${port}`,
      https_proxy: '',
      NO_PROXY: '',
      no_proxy: '',
      LOAM_REGISTRY_TRIES: '1',
    }
    delete (env as Partial<typeof env>).https_proxy
    const child = spawn(process.execPath, world.args('--json', 'pull', 'registry.example/app:1'), {
      env: { ...process.env, ...env },
    })
    const stderr = gather(child.stderr)
    assert.notEqual(await new Promise((resolve) => child.once('close', resolve)), 130)
    assert.doesNotMatch(stderr(), /cancel/i)
  } finally {
    proxy.close()
  }
})
