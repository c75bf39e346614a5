import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempDisposableSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { openLoam } from '../index.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'

const CANCELED = { signal: AbortSignal.abort() }

test('a canceled stop sends no signal', async () => {
  await using world = await createWorld()
  await assert.rejects(world.containers.processes.stop('web', CANCELED), isCanceled)
  assert.deepEqual(world.calls(), ['state'])
})

test('a canceled removal leaves the process and its bundle', async () => {
  await using world = await createWorld()
  await assert.rejects(world.containers.destroy('web', CANCELED), isCanceled)
  assert.deepEqual([world.calls(), existsSync(world.bundle)], [[], true])
})

function isCanceled(error: unknown): boolean {
  return isLoamError(error, 'CANCELED')
}

/** Opens a store with a container that runs in the background, by a runtime that notes how it is called. */
async function createWorld() {
  const directory = mkdtempDisposableSync(join(tmpdir(), 'loam-processes-'))
  const at = (...names: readonly string[]) => join(directory.path, ...names)
  const runtime = at('runtime')
  const calls = at('calls')
  writeFileSync(calls, '')
  const script = `echo "$3" >>${calls}\n[ "$3" != state ] || echo '{"status":"running","pid":1}'\n`
  writeFileSync(runtime, `#!/bin/sh\n${script}`, { mode: 0o755 })
  writeOciLayout(at('layout'), { app: buildImage({ tars: [buildTar([{ name: 'etc/' }])] }) })
  const flags = { root: at('store'), state: at('state'), runtime }
  const loam = await openLoam({ flags, file: null, env: {} })
  await loam.containers.provision(`oci:${at('layout')}:app`, { id: 'web', backend: 'copy' })
  const bundle = at('state/bundles/web')
  for (const path of [bundle, at('state/runtime/web')]) mkdirSync(path, { recursive: true })
  writeFileSync(join(bundle, 'monitor'), 'keep')
  writeFileSync(join(bundle, 'process.pid'), '1')
  return {
    containers: loam.containers,
    bundle,
    calls: () => readFileSync(calls, 'utf8').split('\n').filter(Boolean),
    [Symbol.asyncDispose]: async () => {
      await loam[Symbol.asyncDispose]()
      directory.remove()
    },
  }
}
