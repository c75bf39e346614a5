// Archives that clients send as the body of a request.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError } from 'loamfs'
import { connectLoam } from 'loamfs/client'
import { buildDockerArchive, buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../support/http-world.ts'

const MIB = 1 << 20
const tar = buildTar([{ name: 'hello', data: 'of an archive' }])
const archive = buildDockerArchive(buildImage({ tars: [tar] }), [tar], ['inside:1'])
const PATH = '/v1/images/put?name=made.example%2Fapp%3A1'
const BYTES = { 'content-type': 'application/octet-stream' }

const unfinished = (root: string): unknown[] =>
  readdirSync(join(root, 'ingest'), { recursive: true, withFileTypes: true }).filter((each) => each.isFile())

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; tries < 3000 && !isSo(); tries += 1) await sleep(20)
  assert.ok(isSo())
}

test('an archive is put from the body of a request, with the fields of the query', async () => {
  await using world = await HttpWorld.start()
  const { folder } = world
  const send = async (path: string, more = {}) => world.send('PUT', path, archive, { ...BYTES, ...more })
  const lines = await send(PATH, { accept: 'application/x-ndjson' })
  assert.match(lines.text.trimEnd().split('\n').at(-1) ?? '', /^\{"result":\{"name":"made\.example\/app:1"/)
  for (const [path, status] of [
    [`${PATH}&platform=linux%2Famd64&replace=true`, 200],
    [`${PATH}&address=%2Fetc%2Fpasswd`, 400],
    ['/v1/images/put', 400],
    [`/v1/images/put?name=x%40sha256%3A${'0'.repeat(64)}`, 500],
  ] as const)
    assert.equal((await send(path)).status, status, path)
  assert.equal((await world.send('PUT', PATH, '', BYTES)).status, 400)
  assert.equal((await world.send('PUT', PATH, 'no archive', BYTES)).status, 400)
  assert.deepEqual(unfinished(join(folder, 'root')), [])
})

test('a client that leaves in the middle of its archive leaves no image and no file', async () => {
  await using world = await HttpWorld.start()
  const root = join(world.folder, 'root')
  for (const length of [{ 'content-length': archive.length + 1 }, {}]) {
    const asked = request({ socketPath: world.socket, method: 'PUT', path: PATH, headers: { ...length } })
    asked.on('error', () => undefined)
    asked.write(archive)
    await until(() => existsSync(join(root, 'ingest')) && unfinished(root).length > 0)
    asked.destroy()
    await until(() => unfinished(root).length === 0)
  }
  assert.deepEqual((await world.send('GET', '/v1/images')).body, [])
})

test('a client that sends nothing more is left after fetcher_stall_timeout', async () => {
  await using world = await HttpWorld.start({ fetcher_stall_timeout: '100ms' })
  const asked = request({ socketPath: world.socket, method: 'PUT', path: PATH, headers: BYTES })
  const { promise, resolve } = Promise.withResolvers<unknown>()
  asked.on('error', resolve)
  asked.write('the first part')
  assert.equal(((await promise) as NodeJS.ErrnoException).code, 'ECONNRESET')
  await until(() => unfinished(join(world.folder, 'root')).length === 0)
})

test('an archive above the limit of a layer, or for which the disk has no room, is refused and leaves nothing', async () => {
  const disk = mkdtempSync(join(tmpdir(), 'loam-small-disk-'))
  const endless = async function* () {
    for (;;) yield Buffer.alloc(MIB, 1)
  }
  try {
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk]).status, 0)
    const root = join(disk, 'store')
    mkdirSync(root)
    for (const [flags, code] of [
      [{ root }, 'NO_SPACE'],
      [{ root, limit_layer_bytes: `${MIB}` }, 'LAYER_LIMIT'],
    ] as const) {
      await using world = await HttpWorld.start(flags)
      await using loam = await connectLoam({ socket: world.socket })
      await assert.rejects(loam.images.put(endless(), 'made.example/app:1'), (error) => {
        assert.ok(isLoamError(error, code), String(error))
        return true
      })
      assert.deepEqual(unfinished(root), [])
      // The connection is free for what comes next.
      assert.deepEqual(await loam.images.list(), [])
    }
  } finally {
    spawnSync('umount', ['-l', disk])
    rmSync(disk, { recursive: true, force: true })
  }
})
