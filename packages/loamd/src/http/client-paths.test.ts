// Paths and names mean the same to a client of the daemon as to a program with a store of its own.
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, symlinkSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar, writeOciLayout } from 'loamfs/testing'
import { HttpWorld } from '../../test/support/http-world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file of the layer' }])] })

test('a relative name of an image means the same in every call of the client', async () => {
  await using world = await HttpWorld.start()
  writeOciLayout(join(world.folder, 'layout'), { x: image })
  await using loam = await connectLoam({ socket: world.socket })
  const path = relative(process.cwd(), join(world.folder, 'layout'))
  const name = `oci:${path}:x`
  const { digest } = image.manifest
  assert.equal((await loam.pull(name)).digest, digest)
  for (const each of [name, JSON.stringify({ type: 'OCI', oci: { name: `${path}:x` } })])
    assert.equal((await loam.images.inspect(each)).image.digest, digest)
  assert.equal((await loam.images.contents(name)).digest, digest)
  const excluded = [name, JSON.stringify({ type: 'OCI', oci: { name: `${path}:x` } })]
  for (const each of excluded)
    assert.deepEqual((await loam.images.prune({ all: true, local: true, excluded: [each] })).images, [])
  await assert.rejects(loam.images.push(name), ({ message }: Error) => !message.includes('not absolute'))
  await assert.rejects(loam.images.commit('none', 'new', { base: name }), { code: 'CONTAINER_NOT_FOUND' })
  assert.equal(await loam.images.remove(name), digest)
})

test('a name that is not Unicode is refused, and becomes no other name', async () => {
  await using world = await HttpWorld.start()
  await using loam = await connectLoam({ socket: world.socket })
  await assert.rejects(loam.images.inspect('\ud800'), { code: 'USAGE' })
  await assert.rejects(loam.pull('\ud800'), { code: 'USAGE' })
})

test('an output that is a descriptor of the client is written by the client', async () => {
  await using world = await HttpWorld.start()
  writeOciLayout(join(world.folder, 'layout'), { x: image })
  await using loam = await connectLoam({ socket: world.socket })
  const file = join(world.folder, 'out.tar')
  const descriptor = openSync(file, 'w')
  try {
    const options = { format: 'tar', output: `/dev/fd/${descriptor}` } as const
    await loam.containers.export(`oci:${world.folder}/layout:x`, options)
  } finally {
    closeSync(descriptor)
  }
  assert.ok(readFileSync(file).includes('a file of the layer'))
})

test('the daemon refuses relative names of images, and its own streams, in every operation', async () => {
  await using world = await HttpWorld.start()
  symlinkSync('/dev/stdout', join(world.folder, 'link'))
  const relativeNames = ['oci:app', '{"type":"OCI","oci":{"name":"app"}}']
  const streams = [
    '/dev/stdout',
    '/proc/self/fd/1',
    '/dev/../dev/fd/1',
    `${world.folder}/link`,
    `/proc/${process.pid}/fd/1`,
  ]
  const refused: (readonly [string, string, object])[] = [
    ...[...relativeNames, 'oci-archive:/dev/stdin:x'].flatMap(
      (name): (readonly [string, string, object])[] => [
        ['GET', `/v1/images/inspect?image=${encodeURIComponent(name)}`, {}],
        ['GET', `/v1/images/contents?image=${encodeURIComponent(name)}`, {}],
        ['DELETE', `/v1/images?image=${encodeURIComponent(name)}`, {}],
        ['GET', `/v1/export?format=tar&name=${encodeURIComponent(name)}`, {}],
        ['POST', '/v1/images/pull', { image: name }],
        ['POST', '/v1/images/push', { image: name }],
        ['POST', '/v1/images/prune', { excluded: [name], dryRun: true }],
        ['POST', '/v1/images/commit', { id: 'none', name: 'new', base: name }],
        ['POST', '/v1/snapshots/commit-image', { key: 'none', name: 'new', base: name }],
        ['POST', '/v1/containers/provision', { image: name }],
      ],
    ),
    ...streams.flatMap((output): (readonly [string, string, object])[] => [
      ['POST', '/v1/export', { name: 'none', format: 'tar', output }],
      ['POST', '/v1/snapshots/diff', { key: 'none', output }],
      ['POST', '/v1/images/put', { address: output, name: 'new' }],
    ]),
    ['POST', '/v1/images/pull', { image: 'none', authFile: '/dev/stdin' }],
    ['POST', '/v1/images/pull', { image: 'none', certsDir: '/proc/self/fd/3' }],
  ]
  for (const [method, path, body] of refused) {
    const answer = await world.send(method, path, method === 'POST' ? body : undefined)
    const { code } = answer.body as { readonly code: string }
    assert.deepEqual([answer.status, code], [400, 'USAGE'], `${method} ${path} ${JSON.stringify(body)}`)
  }
})
