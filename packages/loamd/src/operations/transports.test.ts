import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ActivityEvent, Loam } from 'loamfs'
import { Metrics } from '../metrics/metrics.ts'
import { checkPlace } from './context.ts'
import { IMAGE_ACTIONS } from './images.ts'

const FILES = ['oci', 'oci-archive', 'docker-archive', 'aci']
const OTHERS = ['docker', 'appc', 'mesos', 'commit', 'dir', 'constructor', 'ocis', 'xoci']

const refusal = async (act: Promise<unknown>) =>
  act.then(
    () => undefined,
    (error: unknown) => /not absolute|stream|neither/.exec(String(error))?.[0],
  )

test('the daemon refuses relative paths and its own streams, of all transports that name a file', async () => {
  for (const transport of FILES) {
    assert.equal(await refusal(checkPlace(`${transport}:a`)), 'not absolute', transport)
    assert.equal(await refusal(checkPlace(`${transport}:`)), 'not absolute', transport)
    assert.equal(await refusal(checkPlace(`${transport}:/srv/a`)), undefined, transport)
    assert.equal(await refusal(checkPlace(`${transport}:/proc/self/fd/0`)), 'stream', transport)
  }
  for (const transport of OTHERS)
    for (const path of ['a', '/proc/self/fd/0'])
      assert.equal(await refusal(checkPlace(`${transport}:${path}`)), undefined, transport)
})

test('the daemon loads archives of several images by an absolute path or a URL, with or without their transport', async () => {
  const load = async (address: string) => {
    const loam = { images: { load: async () => Promise.resolve([]) } } as unknown as Loam
    const context = { loam, signal: AbortSignal.timeout(60_000), onEvent: () => undefined }
    return refusal(IMAGE_ACTIONS['images.load'](context as never, { address }))
  }
  for (const transport of ['oci', 'oci-archive', 'docker-archive']) {
    assert.equal(await load(`${transport}:/srv/a`), undefined)
    assert.equal(await load(`${transport}:a`), 'neither')
    assert.equal(await load(`${transport}:https://example.com/a`), undefined)
    assert.equal(await load(`${transport}:/proc/self/fd/0`), 'stream')
  }
  for (const transport of ['aci', ...OTHERS]) assert.equal(await load(`${transport}:a`), 'neither')
})

test('pulls are counted by the transport of the name, and those of other words as of a registry', async () => {
  const metrics = new Metrics()
  const sources = [...FILES, 'appc', ...OTHERS]
  for (const transport of sources)
    metrics.observe({
      kind: 'end',
      operation: 'images.pull',
      attributes: { image: `${transport}:/srv/a` },
      durationMs: 1,
    } as unknown as ActivityEvent)
  const found = /^loam_image_pull_duration_seconds_count.*$/gm
  const counts = [...(await metrics.registry.metrics()).matchAll(found)].map(([line]) => line)
  const counted = counts.map((line) => [/source="([^"]*)"/.exec(line)?.[1], Number(line.split(' ').at(-1))])
  assert.deepEqual(Object.fromEntries(counted), {
    ...{ oci: 1, 'oci-archive': 1, 'docker-archive': 1, aci: 1, appc: 2 },
    registry: OTHERS.length - 1,
  })
})
