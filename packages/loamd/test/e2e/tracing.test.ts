// Traces of the daemon, as a collector of OpenTelemetry receives them.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { json } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { DaemonWorld } from '../support/world.ts'

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly status: { readonly code?: number }
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue?: string } }[]
}

interface Body {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: Span['attributes'] }
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[]
  }[]
}

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const CALLER = 'b7ad6b7169203331'
const PARENT = `00-${TRACE}-${CALLER}-01`

/** A collector that keeps what it gets, or one that never answers. */
class Collector implements Disposable {
  readonly #server: Server
  readonly bodies: Body[] = []
  asked = 0

  private constructor(answers: boolean) {
    this.#server = createServer((request, response) => {
      this.asked += 1
      const answer = async () => {
        this.bodies.push((await json(request)) as Body)
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
      }
      if (answers) void answer()
    })
  }

  static async start(answers: boolean): Promise<Collector> {
    const collector = new Collector(answers)
    const { promise, resolve } = Promise.withResolvers<void>()
    collector.#server.listen(0, '127.0.0.1', resolve)
    await promise
    return collector
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get spans(): Span[] {
    return this.bodies.flatMap(({ resourceSpans }) =>
      resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
    )
  }

  [Symbol.dispose](): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

/** Lets the daemon run a command. */
async function loam(
  world: DaemonWorld,
  env: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<void> {
  await promisify(execFile)(programPath('loam'), ['--root', world.root, '--state', world.state, ...args], {
    env: { ...process.env, LOAM_DAEMON: 'require', ...env },
  })
}

/** The spans below one, by name, each with those below it. */
function treeOf(spans: readonly Span[], parentId: string | undefined): string[] {
  return spans
    .filter(({ parentSpanId }) => (parentSpanId ?? '') === (parentId ?? ''))
    .map(({ name, spanId }) => {
      const below = treeOf(spans, spanId)
      return below.length === 0 ? name : `${name}(${below.join(' ')})`
    })
    .toSorted((one, other) => one.localeCompare(other))
}

const image = buildImage({
  tars: [buildTar([{ name: 'hello', data: 'x' }]), buildTar([{ name: 'more', data: 'y' }])],
})

test('a collector gets the spans of a pull and a provision, as parts of the trace of their caller, which the registry gets, too', async () => {
  using collector = await Collector.start(true)
  await using registry = await RegistryServer.start()
  registry.addImage('app', '1', image)
  await using world = new DaemonWorld()
  await world.startDaemonWith({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.address, OTEL_SERVICE_NAME: 'node-7' })
  const name = `${registry.host}/app:1`
  await loam(world, { TRACEPARENT: PARENT }, 'pull', name)
  await loam(world, { TRACEPARENT: PARENT }, 'provision', '--id', 'web', name)
  await world.stop('loamd')
  // What the daemon does by itself at its start has a trace of its own.
  const [spans, others] = [true, false].map((isCallers) =>
    collector.spans.filter(({ traceId }) => (traceId === TRACE) === isCallers),
  )
  assert.ok(spans !== undefined && others !== undefined)
  assert.deepEqual(treeOf(others, undefined), ['containers.recover'])
  const layer = 'layer(layer.commit layer.fetch layer.ingest)'
  assert.deepEqual(treeOf(spans, CALLER), [
    'containers.provision(rootfs.create(stack.mount(artifact.build)))',
    'containers.provisionVolumes',
    `images.pull(image.resolve image.sync ${layer} ${layer})`,
  ])
  const names = collector.bodies[0]?.resourceSpans[0]?.resource.attributes ?? []
  const service = names.find(({ key }) => key === 'service.name')
  assert.equal(service?.value.stringValue, 'node-7')
  const asked = registry.headers.map(({ path, headers }) => [path, headers['traceparent']] as const)
  const blobs = asked.filter(([path]) => image.layers.some(({ digest }) => path.endsWith(digest)))
  const fetches = spans.filter((span) => span.name === 'layer.fetch')
  assert.deepEqual(
    new Set(blobs.map(([, parent]) => parent)),
    new Set(fetches.map(({ spanId }) => `00-${TRACE}-${spanId}-01`)),
  )
})

for (const [what, answers] of [
  ['that is away', undefined],
  ['that never answers', false],
] as const) {
  test(`a collector ${what} fails no pull, and a stop of the daemon does not wait for it`, async () => {
    using collector = await Collector.start(answers ?? false)
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', image)
    await using world = new DaemonWorld()
    const endpoint = answers === undefined ? 'http://127.0.0.1:9' : collector.address
    await world.startDaemonWith({
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${endpoint}/v1/traces`,
      OTEL_EXPORTER_OTLP_TIMEOUT: '300000',
    })
    await loam(world, {}, 'pull', `${registry.host}/app:1`)
    // Its exporter waits for five minutes, and the daemon for none of them.
    assert.equal(await world.stop('loamd'), 0)
  })
}
