// The metrics of a daemon for Prometheus, the alert rules and the dashboard.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, get as getHttp, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { Client } from '../support/client.ts'
import { get, post } from '../support/http.ts'
import { DaemonWorld, until } from '../support/world.ts'

const MONITORING = fileURLToPath(new URL('../../monitoring/', import.meta.url))
const OPERATIONS = fileURLToPath(new URL('../../../../docs/operations.md', import.meta.url))

function promtool(args: readonly string[], input = '') {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' })
  return { status, output: `${stdout}${stderr}` }
}

async function freePort(): Promise<number> {
  const server = createServer()
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** A daemon that has pulled an image twice, failed to pull another, and answered containerd. Returns its metrics. */
async function scrapeOfBusyDaemon(world: DaemonWorld, ...args: readonly string[]): Promise<string> {
  await using server = await RegistryServer.start()
  server.addImage('app', '1', buildImage({ tars: [buildTar([{ name: 'a', data: 'a' }])] }))
  await world.startDaemon(...args)
  const pull = async (name: string) => {
    const request = { image: `${server.host}/${name}:1`, insecure: [server.host] }
    return (await post(world.apiSocket, '/v1/images/pull', request)).status
  }
  assert.deepEqual([await pull('app'), await pull('app'), await pull('absent')], [200, 200, 404])
  const client = new Client(world.socket)
  await client.list()
  await client.stat('absent').catch(() => undefined)
  client.close()
  let text = ''
  // The first scrape starts the count of the store's objects.
  const isCounted = async () => {
    text = (await get(world.apiSocket, '/metrics')).body
    return /^loam_store_bytes/m.test(text) && /^loam_images 1$/m.test(text)
  }
  await until(isCounted, 'the store is measured', 50)
  return text
}

/** The names of all metrics, as Prometheus stores them. */
function namesIn(scrape: string): Set<string> {
  const typed = [...scrape.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
  return new Set(
    typed.flatMap(([, name = '', type]) =>
      type === 'histogram' ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  )
}

describe('metrics', () => {
  test('a gauge has no value before the first count of a daemon', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const { body } = await get(world.apiSocket, '/metrics')
    const [gauges = [], samples = []] = [/^# TYPE (loam_\S+) gauge$/gm, /^(loam_[a-z_]+)\b/gm].map(
      (pattern) => Array.from(body.matchAll(pattern), ([, name]) => name ?? ''),
    )
    const known = [
      'loam_build_info',
      'loam_threads_busy',
      'loam_tasks_waiting',
      'loam_operations_in_progress',
    ]
    assert.ok(gauges.includes('loam_images') && gauges.includes('loam_lazy_layers'))
    assert.deepEqual(
      gauges.filter((name) => samples.includes(name) && !known.includes(name)),
      [],
    )
  })

  test('the daemon counts pulls, layers, errors and calls, and promtool has no objection', async () => {
    await using world = new DaemonWorld()
    const text = await scrapeOfBusyDaemon(world)
    for (const line of [
      'loam_image_pull_duration_seconds_count{source="registry",result="fetched"} 1',
      'loam_image_pull_duration_seconds_count{source="registry",result="cached"} 1',
      'loam_image_pull_duration_seconds_count{source="registry",result="failed"} 1',
      'loam_operations_total{operation="images.pull",code="ok"} 2',
      'loam_operations_total{operation="images.pull",code="IMAGE_NOT_FOUND"} 1',
      'loam_operations_in_progress{operation="images.pull"} 0',
      'loam_layers_total{result="fetched"} 1',
      'loam_grpc_requests_total{method="List",status="OK"} 1',
      'loam_grpc_requests_total{method="Stat",status="NOT_FOUND"} 1',
      'loam_containers 0',
      'loam_lazy_layers 0',
      'loam_lazy_reads_starved 0',
      'loam_store_reclaimable_bytes 0',
      'loam_snapshots{kind="active"} 0',
      'loam_threads_busy{pool="layers"} 0',
      'loam_tasks_waiting{pool="layers"} 0',
      `loam_build_info{version="0.1.0",node="${process.version}"} 1`,
    ]) {
      assert.ok(text.split('\n').includes(line), `${line} in\n${text.replaceAll(/^#.*\n/gm, '')}`)
    }
    assert.match(text, /^loam_fetched_bytes_total [1-9]\d*$/m)
    assert.match(text, /^nodejs_eventloop_lag_p99_seconds /m)
    assert.deepEqual(promtool(['check', 'metrics'], text), { status: 0, output: '' })
  })

  test('the alert rules are valid, and they, the dashboard and the documents name figures that the daemon has', async () => {
    await using world = new DaemonWorld()
    const names = namesIn(await scrapeOfBusyDaemon(world))
    const rules = promtool(['check', 'rules', `${MONITORING}alerts.yaml`])
    assert.equal(rules.status, 0, rules.output)
    const panels = JSON.parse(readFileSync(`${MONITORING}grafana-dashboard.json`, 'utf8')).panels
    const queries: string[] = panels.flatMap(({ targets }: { targets: { expr: string }[] }) =>
      targets.map(({ expr }) => expr),
    )
    assert.ok(queries.length > 15)
    const texts = [
      ...queries,
      readFileSync(`${MONITORING}alerts.yaml`, 'utf8'),
      readFileSync(OPERATIONS, 'utf8'),
    ]
    const used = new Set(texts.flatMap((each) => each.match(/\b(?:loam|nodejs|process)_[a-z0-9_]+\b/g) ?? []))
    assert.deepEqual(
      [...used].filter((name) => !names.has(name) && name !== 'loam_prune'),
      [],
    )
    const documented = readFileSync(OPERATIONS, 'utf8')
    const own = [...names].filter((name) => /^loam_(?!.*_(?:bucket|sum|count)$)/.test(name))
    assert.deepEqual(
      own.filter((name) => !documented.includes(`\`${name}\``)),
      [],
    )
  })

  test('metrics_address serves the figures and nothing else at a loopback port, and no other address', async () => {
    await using world = new DaemonWorld()
    const port = await freePort()
    const env = { LOAM_METRICS_ADDRESS: `127.0.0.1:${port}` }
    await world.startDaemonWith(env)
    const scrape = await fetch(`http://127.0.0.1:${port}/metrics`)
    assert.match(await scrape.text(), /^loam_build_info/m)
    assert.equal((await fetch(`http://127.0.0.1:${port}/v1/images`)).status, 404)
    const method = 'POST'
    assert.equal((await fetch(`http://127.0.0.1:${port}/metrics`, { method })).status, 404)
    // A site whose name leads to this machine: fetch sends no other host.
    const asked = getHttp({ port, host: '127.0.0.1', path: '/metrics', headers: { host: 'site.example' } })
    const [rebound] = (await once(asked, 'response')) as [IncomingMessage]
    assert.equal(rebound.resume().statusCode, 403)
    await world.stop('loamd')
    const refused = world.tryDaemon({ LOAM_METRICS_ADDRESS: `0.0.0.0:${port}` })
    assert.match(refused, /is not a port of the loopback interface/)
  })
})
