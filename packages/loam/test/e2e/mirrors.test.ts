// Peer-to-peer mirrors in hosts.toml: they come and go in the middle of a pull.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { ok, World } from '../support/world.ts'

const BYTES = 3_000_000
const CUT = 1_000_000

describe('a pull through a mirror', () => {
  test('a mirror that dies in a blob, sends wrong bytes or lacks a blob does no harm, and the layers are verified as a whole', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    await using mirror = await RegistryServer.start()
    const image = buildImage({
      tars: ['dies', 'lies', 'lacks'].map((name) => buildTar([{ name, data: randomBytes(BYTES) }])),
      compression: 'none',
    })
    const [dies, lies, lacks] = image.layers.map(({ digest }) => digest)
    for (const server of [registry, mirror]) server.addImage('app', '1', image)
    mirror.intercept = (request, response) => {
      const digest = request.url?.split(/\/blobs\/|\?/)[1]
      if (digest === lacks) response.writeHead(404).end()
      else if (digest === dies || digest === lies) {
        const bytes = image.layers.find((layer) => layer.digest === digest)?.bytes ?? Buffer.alloc(0)
        response.writeHead(200, { 'content-length': bytes.length })
        response.write(digest === dies ? bytes.subarray(0, CUT) : Buffer.alloc(CUT), () => {
          setTimeout(() => response.destroy(), 5)
        })
      } else return false
      return true
    }
    const certs = world.path('certs')
    mkdirSync(`${certs}/_default`, { recursive: true })
    writeFileSync(
      `${certs}/_default/hosts.toml`,
      `[host.'http://${mirror.host}']\ncapabilities = ['pull', 'resolve']\ndial_timeout = '200ms'\n`,
    )
    ok(await world.loamAsync('pull', '--certs-dir', certs, `${registry.host}/app:1`))
    ok(world.loam('fsck'))
    const asked = registry.headers
      .filter(({ path }) => path.includes('/blobs/'))
      .map(
        ({ path, headers }) =>
          `${path.split('/blobs/')[1]} ${headers.range === undefined ? 'whole' : 'rest'}`,
      )
    // The first part of one was wrong, so that its digest did not match, and the registry was asked for the whole.
    const expected = [`${dies} rest`, `${lies} rest`, `${lies} whole`, `${lacks} whole`]
    for (const each of expected) assert.ok(asked.includes(each), `${each}: ${asked.join(', ')}`)
    assert.equal(asked.filter((each) => !each.includes(image.config.digest)).length, expected.length)
  })
})
