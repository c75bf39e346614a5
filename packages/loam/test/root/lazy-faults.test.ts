// What readers of partial layers see while a registry, a disk or the processes behind them fail: never a wrong byte.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { spawnSync } from 'node:child_process'
import { closeSync, copyFileSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { layerPath, openStoreRoot } from '../../src/content/index.ts'
import { storedReference } from '../../src/image/index.ts'
import { openSpanMap, recordSpan, SPAN_HERE } from '../../src/layers/span-map.ts'
import { isMountPoint, mountErofs, unmountAll } from '../../src/linux/index.ts'
import type { Interceptor } from '../../src/testing/index.ts'
import { LazyStore, type LazyStoreOptions } from '../support/lazy-store.ts'
import { must, World } from '../support/world.ts'

const RIGHT = { wrong: [], failed: [] }
const SMALL: LazyStoreOptions = { files: 12, layers: 1, spanBytes: 64 << 10 }

/** Lets a registry answer blobs in another way. */
function interceptBlobs(store: LazyStore, intercept: Interceptor): void {
  store.registry.intercept = (request, response) =>
    request.url?.includes('/blobs/') === true && intercept(request, response)
}

/** Reads until all is right; whatever fails before that fails with an error. */
async function readUntilRight(store: LazyStore): Promise<void> {
  for (;;) {
    const read = await store.read()
    const { wrong, failed } = store.compare(read)
    assert.deepEqual(wrong, [])
    if (failed.length === 0) return
    await sleep(200)
  }
}

/** Changes what a response is going to send. */
function changeBody(response: ServerResponse, change: (body: Buffer) => Buffer): void {
  const end = response.end.bind(response)
  response.end = ((body: Buffer) => end(change(body))) as typeof response.end
}

function flipMiddle(body: Buffer): Buffer {
  const flipped = Buffer.from(body)
  const at = flipped.length >> 1
  flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at)
  return flipped
}

test('a registry that flips bits gives errors and no wrong byte, and all is right once it is mended', async () => {
  await using store = await LazyStore.create(SMALL)
  let isBad = true
  interceptBlobs(store, (_request, response) => {
    if (isBad) changeBody(response, flipMiddle)
    return false
  })
  await store.show()
  const { wrong, failed } = store.compare(await store.read())
  assert.deepEqual(wrong, [])
  assert.ok(failed.length > 0)
  isBad = false
  await readUntilRight(store)
})

test('a registry that closes connections in the middle, refuses, hides and limits is asked again until all is right', async () => {
  await using store = await LazyStore.create(SMALL)
  const answers = [
    (response: ServerResponse) => response.writeHead(403).end(),
    (response: ServerResponse) => response.writeHead(404).end(),
    (response: ServerResponse) => response.writeHead(429, { 'retry-after': '1' }).end(),
    (response: ServerResponse) => response.writeHead(500).end(),
    (response: ServerResponse) => response.destroy(),
    (response: ServerResponse) => {
      response.writeHead(206, { 'content-length': 9000, 'content-range': 'bytes 0-8999/9000' })
      response.write(Buffer.alloc(100))
      setTimeout(() => response.destroy(), 10)
    },
  ]
  interceptBlobs(store, (_request, response) => {
    const answer = answers.shift()
    answer?.(response)
    return answer !== undefined
  })
  await store.show()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
  assert.equal(answers.length, 0)
})

test('a registry that knows no ranges is read once, in order', async () => {
  await using store = await LazyStore.create(SMALL)
  interceptBlobs(store, (request) => {
    delete request.headers.range
    return false
  })
  await store.show()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
  const [diffId] = store.diffIds
  assert.ok(diffId !== undefined)
  await store.client.complete(diffId)
  // Requests that were under way when it became known, and the one.
  assert.ok(store.registry.countBlob(store.image.layers[0]?.digest ?? '') <= 4)
})

test('a registry without ranges whose bytes stay wrong is not read again and again, and all is right once it is mended', async () => {
  await using store = await LazyStore.create(SMALL)
  let isBad = true
  let requests = 0
  interceptBlobs(store, (request, response) => {
    requests += 1
    delete request.headers.range
    if (isBad) changeBody(response, flipMiddle)
    return false
  })
  await store.show()
  const { wrong, failed } = store.compare(await store.read())
  assert.deepEqual(wrong, [])
  assert.ok(failed.length > 0)
  const before = requests
  await sleep(3000)
  // One for each time that reads of a span may be tried again: after 1, 2, 4 s, in each layer.
  assert.ok(requests - before <= 6 * store.diffIds.length, `${requests - before} requests`)
  isBad = false
  await readUntilRight(store)
})

test('a blob without checkpoints is fetched in order', async () => {
  await using store = await LazyStore.create({ ...SMALL, compression: 'zstd' })
  await store.show()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
})

test('credentials that have changed are looked up again', async () => {
  await using store = await LazyStore.create(SMALL)
  const login = (password: string) => {
    const auth = Buffer.from(`user:${password}`).toString('base64')
    mkdirSync(join(store.folder, '.docker'), { recursive: true })
    writeFileSync(
      join(store.folder, '.docker/config.json'),
      JSON.stringify({ auths: { [store.registry.host]: { auth } } }),
    )
  }
  const right = `Basic ${Buffer.from('user:new').toString('base64')}`
  store.registry.intercept = (request, response) => {
    if (request.headers.authorization === right) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
    return true
  }
  login('old')
  await store.show()
  const reading = store.read()
  while ((await store.status()).layers[0]?.failure === null) await sleep(20)
  login('new')
  assert.deepEqual(store.compare(await reading), RIGHT)
})

test('a read fails when nothing arrives for longer than lazy_stall_timeout, and is right when the registry is back', async () => {
  await using store = await LazyStore.create({
    ...SMALL,
    settings: { lazy_stall_timeout: '1s', fetcher_stall_timeout: '1s', registry_tries: '1' },
  })
  let isSilent = true
  interceptBlobs(store, () => isSilent)
  await store.show()
  const { wrong, failed } = store.compare(await store.read([...store.sums.keys()].slice(0, 2)))
  assert.deepEqual([wrong.length, failed.length], [0, 2])
  isSilent = false
  await readUntilRight(store)
})

test('who waits for all of a layer is told why when its data does not come, and reads of it wait on', async () => {
  await using store = await LazyStore.create(SMALL)
  let isGone = true
  interceptBlobs(store, (_request, response) => {
    if (isGone) response.writeHead(404).end()
    return isGone
  })
  await store.show()
  const reading = store.read()
  await assert.rejects(store.client.complete(store.diffId), /404/)
  isGone = false
  assert.deepEqual(store.compare(await reading), RIGHT)
  await store.client.complete(store.diffId)
})

test('who waits for all of a layer is told when the registry sends wrong bytes again and again', async () => {
  await using store = await LazyStore.create(SMALL)
  interceptBlobs(store, (_request, response) => {
    changeBody(response, (body) => Buffer.alloc(body.length))
    return false
  })
  await store.show()
  await assert.rejects(store.client.complete(store.diffId), { code: 'DIGEST_MISMATCH' })
})

test('reads of what is not here fail on a full disk, the others are right, and all are right when there is room', async () => {
  using scratch = new World()
  const disk = scratch.path('disk')
  mkdirSync(disk)
  must(
    'sh',
    '-c',
    `truncate -s 48M ${disk}.img && mkfs.ext4 -q ${disk}.img && mount -o loop ${disk}.img ${disk}`,
  )
  const folder = join(disk, 'lazy')
  mkdirSync(folder)
  {
    await using store = await LazyStore.create({
      files: 40,
      layers: 2,
      spanBytes: 64 << 10,
      folder,
      state: scratch.state,
    })
    const filler = join(disk, 'filler')
    spawnSync('sh', ['-c', `dd if=/dev/zero of=${filler} bs=64k 2>/dev/null`])
    await store.show()
    const { wrong, failed } = store.compare(await store.read())
    assert.deepEqual(wrong, [])
    assert.ok(failed.length > 0)
    const { layers } = (await store.client.status()) ?? { layers: [] }
    assert.ok(layers.some(({ failure }) => failure?.includes('the disk is full') === true))
    rmSync(filler)
    await readUntilRight(store)
  }
})

test('a lazy index that has lied about the bytes is denied when the layer is complete, and all reads fail from then on', async () => {
  await using store = await LazyStore.create({ ...SMALL, isLying: true })
  await store.show()
  await assert.rejects(store.client.complete(store.diffId), { code: 'LAYER_DAMAGED' })
  const { indexDigest } = store.metadata.layers.partialSource(store.diffId) ?? {}
  assert.ok(indexDigest !== undefined && store.metadata.layers.denialOf(indexDigest) !== undefined)
  while (store.denied.length === 0) await sleep(20)
  const { diffId } = store
  assert.deepEqual(
    store.denied.map((denied) => ({ ...denied, reason: denied.reason.replace(/sha256:\w+/, 'DIGEST') })),
    [{ diffId, indexDigest, reason: 'the tar has the digest DIGEST', containers: [], snapshots: [] }],
  )
  assert.equal(store.metadata.layers.find(store.diffId)?.data, 'partial')
  const { failed } = store.compare(await store.read())
  assert.equal(failed.length, store.sums.size)
  const denied = (await store.status()).layers.find(({ diffId: each }) => each === diffId)
  assert.equal(denied?.presentBytes, 0)
  // Also after a restart.
  process.kill((await store.status()).pid, 'SIGKILL')
  assert.equal(store.compare(await store.read()).failed.length, store.sums.size)
})

test('a layer whose index is allowed again is verified once more, and its reads wait again', async () => {
  await using store = await LazyStore.create(SMALL)
  const { indexDigest } = store.metadata.layers.partialSource(store.diffId) ?? {}
  assert.ok(indexDigest !== undefined)
  await store.metadata.layers.denyIndex(indexDigest, 'by mistake')
  await store.show()
  assert.equal(store.compare(await store.read()).failed.length, store.sums.size)
  assert.equal(await store.metadata.lazy.allowIndex(indexDigest), true)
  assert.equal(await store.metadata.lazy.allowIndex(indexDigest), false)
  await store.client.serve(store.diffIds)
  assert.deepEqual(store.compare(await store.read()), RIGHT)
  await store.client.complete(store.diffId)
})

test('a mount whose reads nobody has let wait is found, unmounted and told', async () => {
  await using store = await LazyStore.create(SMALL)
  interceptBlobs(store, () => true)
  await store.show()
  await store.endHandler()
  store.endHolders()
  await store.client.serve(store.diffIds)
  assert.deepEqual((await store.status()).poisoned, [store.mount])
  assert.equal(isMountPoint(store.mount), false)
  store.registry.intercept = () => false
  store.mountLayers()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
})

test('mounts of another store with the same layers stay when those of a store are unmounted', async () => {
  await using store = await LazyStore.create(SMALL)
  interceptBlobs(store, () => true)
  await store.show()
  const { images } = openStoreRoot(join(store.folder, 'other'))
  const [image, tar, target] = [
    join(images, 'merged.erofs'),
    join(store.folder, 'tar'),
    join(images, 'mount'),
  ]
  copyFileSync(store.imagePath, image)
  writeFileSync(tar, gunzipSync(store.image.layers[0]?.bytes ?? ''))
  mkdirSync(target)
  mountErofs({ image, devices: [tar], target, by: 'file' })
  await store.endHandler()
  store.endHolders()
  await store.client.serve(store.diffIds)
  assert.deepEqual((await store.status()).poisoned, [store.mount])
  assert.equal(isMountPoint(target), true)
  unmountAll(target)
})

test('a blob that is gone is fetched by another name of an image with this layer', async () => {
  await using store = await LazyStore.create(SMALL)
  const [layer] = store.image.layers
  assert.ok(layer !== undefined)
  const name = storedReference(`${store.registry.host}/moved:1`)
  const record = {
    digest: store.image.manifest.digest,
    type: 'docker',
    mediaType: store.image.mediaType,
    configDigest: store.image.config.digest,
    chainId: undefined,
    platform: 'linux/amd64',
    sizeBytes: 1,
    created: undefined,
    pulledAtMs: 1,
    usedAtMs: 1,
    isLocal: false,
    layers: [
      { diffId: store.diffId, blobDigest: layer.digest, blobMediaType: 'x', blobBytes: layer.bytes.length },
    ],
  } as const
  await store.metadata.images.put(record, [
    { reference: name, targetDigest: record.digest, givenBy: 'location', locations: [] },
  ])
  interceptBlobs(store, (request, response) => {
    const isGone = request.url?.includes('/app/') === true
    if (isGone) response.writeHead(404).end()
    return isGone
  })
  await store.show()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
})

test('what another boot has left in a tar is hashed before it is used', async () => {
  await using store = await LazyStore.create(SMALL)
  const map = join(layerPath(store.paths, store.diffId), 'layer.spans')
  const otherBoot = '00000000-0000-4000-8000-000000000000'
  const { fd } = openSpanMap(map, store.index.spans.count, otherBoot)
  for (let span = 0; span < store.index.spans.count; span += 1) recordSpan(fd, span, SPAN_HERE)
  closeSync(fd)
  // The claims of the first half are true, and those of the second are of a sparse file.
  const blob = store.image.layers[0]?.bytes ?? Buffer.alloc(0)
  const { tarStarts, count } = store.index.spans
  const half = gunzipSync(blob).subarray(0, tarStarts[count >> 1])
  const tar = openSync(store.tarPath(store.diffId), 'r+')
  writeSync(tar, half, 0, half.length, 0)
  closeSync(tar)
  await store.show()
  assert.deepEqual(store.compare(await store.read()), RIGHT)
  await store.client.complete(store.diffId)
  const fetched = store.registry.headers.flatMap(
    ({ headers }) => /^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? [],
  )
  const { blobStarts } = store.index.spans
  assert.ok(fetched.length > 0)
  for (const start of fetched) assert.ok(Number(start) >= (blobStarts[count >> 1] ?? 0), start)
})
