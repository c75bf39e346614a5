// A checkout has the sources, and nothing that was built; a package has dist alone.
import { existsSync } from 'node:fs'
import { requireNode } from './require-node.js'

requireNode()
const source = new URL('./src/client/index.ts', import.meta.url)
const {
  RemoteContainers,
  RemoteImages,
  RemoteLoam,
  RemoteSnapshots,
  RemoteSnapshotter,
  RemoteStore,
  connectLoam,
} = await import(existsSync(source) ? source.href : './dist/client.js')

export {
  RemoteContainers,
  RemoteImages,
  RemoteLoam,
  RemoteSnapshots,
  RemoteSnapshotter,
  RemoteStore,
  connectLoam,
}
