// Both stores of images pass the suite of stores.
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe } from 'node:test'
import { Activity } from '../../src/activity/index.ts'
import { readConfiguration } from '../../src/config/index.ts'
import { Wiring } from '../../src/app/wiring.ts'
import { layerPath, lockPath, openStoreRoot } from '../../src/content/index.ts'
import type { Digest } from '../../src/image/index.ts'
import { type ImageType, MetadataStore, parseContainerId } from '../../src/metadata/index.ts'
import { formatImageName, type ImageSource } from '../../src/sources/index.ts'
import type { StoredImage } from '../../src/stores/index.ts'
import {
  appcLabels,
  buildAci,
  buildImage,
  buildTar,
  RegistryServer,
  storeConformance,
  type StoreUnderTest,
} from '../../src/testing/index.ts'

const NAMES = { first: 'first', other: 'other', missing: 'missing' } as const

/** A location that images of one type come from: an HTTP server that counts requests, and can be paused. */
async function serveSource(type: ImageType): Promise<RegistryServer> {
  const server = await RegistryServer.start()
  const tar = (name: string) => buildTar([{ name, data: name }])
  if (type === 'docker') {
    server.addImage('first', '1', buildImage({ tars: [tar('base'), tar('shared')] }))
    server.addImage('other', '1', buildImage({ tars: [tar('shared'), tar('top')] }))
    return server
  }
  const labels = appcLabels({ version: '1', os: 'linux', arch: 'amd64' })
  const on = (imageName: string) => [{ imageName, labels: appcLabels({ version: '1' }) }]
  const aci = (name: string, file: string, dependencies: readonly object[]): [string, Buffer] => [
    `/${name}-1-linux-amd64.aci`,
    buildAci({ manifest: { name, labels, dependencies }, entries: [{ name: file, data: file }] }).bytes,
  ]
  const files = new Map([
    aci('base', 'base', []),
    aci('first', 'first', on('shared')),
    aci('shared', 'shared', []),
    aci('other', 'top', on('shared')),
  ])
  server.intercept = (request, response) => {
    const bytes = files.get(request.url ?? '')
    response.writeHead(bytes === undefined ? 404 : 200).end(bytes)
    return true
  }
  return server
}

async function createWorld(type: ImageType): Promise<StoreUnderTest<ImageSource>> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-store-')))
  const server = await serveSource(type)
  const intercept = server.intercept
  const open = async () => {
    const flags = {
      root: join(folder, 'store'),
      state: join(folder, 'state'),
      insecure_registries: server.host,
      appc_simple_discovery_uri_prefix: `http://${server.host}/`,
    }
    const configuration = readConfiguration({ flags, file: null })
    const paths = openStoreRoot(configuration.values.root)
    const metadata = await MetadataStore.open(paths.database, {
      lockFile: lockPath(paths, 'metadata', 'open'),
    })
    return new Wiring({ configuration, paths, metadata, env: {}, cwd: '', activity: new Activity() })
  }
  const parts = await open()
  const others: Wiring[] = []
  const nameOf = (image: keyof typeof NAMES) =>
    type === 'docker' ? `${server.host}/${image}:1` : `appc://${image}:1`
  // A source is opened for as long as its opener waits.
  const closers: (() => Promise<void>)[] = []
  const openSource = async (image: keyof typeof NAMES) => {
    const opened = Promise.withResolvers<ImageSource>()
    const closed = Promise.withResolvers<void>()
    const using = parts.sources
      .with(parts.sources.parse(nameOf(image)).name, {}, async (source) => {
        opened.resolve(source)
        await closed.promise
      })
      .catch(opened.reject)
    closers.push(async () => {
      closed.resolve()
      await using
    })
    return opened.promise
  }
  return {
    store: parts.stores[type],
    open: openSource,
    takeRequests: () => server.requests.splice(0).length,
    takeTransfers: () => server.requests.splice(0).filter((path) => /\/blobs\/|\.aci$/.test(path)),
    nameOf: (image) => formatImageName(parts.sources.parse(nameOf(image)).name),
    loseLayer: (diffId: Digest) => {
      rmSync(join(layerPath(parts.paths, diffId), 'layer.tar'))
    },
    stallSource: () => {
      const held: (() => void)[] = []
      let isHeld = true
      server.intercept = (request, response) => {
        const answer = () => {
          if (!intercept(request, response)) server.answer(request, response)
        }
        if (isHeld) held.push(answer)
        else answer()
        return true
      }
      return () => {
        isHeld = false
        for (const answer of held.splice(0)) answer()
      }
    },
    reopen: async () => {
      const other = await open()
      others.push(other)
      return other.stores[type]
    },
    leftovers: async () => {
      for (const close of closers.splice(0)) await close()
      return ['ingest', 'trash'].flatMap((name) => {
        const path = join(parts.paths.root, name)
        // The areas of processes that still run are empty.
        return readdirSync(path).filter((entry) => readdirSync(join(path, entry)).length > 0)
      })
    },
    use: async ({ record }: StoredImage) => {
      const { containers } = parts.metadata
      const uuid = `use-${record.digest}`
      await containers.putRootfs(
        {
          uuid,
          containerId: parseContainerId('user'),
          state: 'ready',
          backend: 'copy',
          reference: 'x',
          imageDigest: record.digest,
          chainId: record.chainId,
          layers: record.layers.map(({ diffId }) => diffId),
          rootfsPath: '/nowhere',
          scratchPath: '/nowhere',
          isReadOnly: false,
          sizeBytes: undefined,
          idMapping: undefined,
          volumeTarget: undefined,
          volumeSubPath: undefined,
          volumeRoot: undefined,
          volumeMount: undefined,
          bootId: 'x',
          createdAtMs: 0,
        },
        false,
      )
      return {
        [Symbol.asyncDispose]: async () => containers.removeRootfs(uuid),
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const close of closers) await close()
      for (const other of others) await other[Symbol.asyncDispose]()
      await parts[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

describe('stores', () => {
  storeConformance('docker', async () => createWorld('docker'))
  storeConformance('appc', async () => createWorld('appc'))
})
