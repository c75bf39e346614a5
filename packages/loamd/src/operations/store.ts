import { describeSettings } from 'loamfs/internal'
import { readVersion } from '../version.ts'
import type { SocketName } from '../systemd/passed-sockets.ts'
import { type Actions, toFetchOptions } from './context.ts'

/** Version of the API: the first part of each path. */
const API_VERSION = 'v1'

/** Operations on the store as a whole, and the daemon. */
export const STORE_ACTIONS: Actions<'store' | 'daemon'> = {
  'daemon.version': async ({ loam }) => ({
    version: readVersion(),
    api: API_VERSION,
    root: loam.store.configuration.values.root,
    pid: process.pid,
  }),
  'daemon.status': async ({ loam, daemon: { startedAtMs, sockets, requests } }) => ({
    version: readVersion(),
    api: API_VERSION,
    root: loam.store.configuration.values.root,
    state: loam.store.configuration.values.state,
    pid: process.pid,
    node: process.version,
    startedAtMs,
    sockets,
    requests: [...requests.values()].filter(({ operation }) => operation !== 'daemon.status'),
  }),
  'store.usage': async ({ loam }) => loam.store.usage(),
  'store.partialLayers': async ({ loam }) => loam.store.partialLayers(),
  'store.allowIndex': async ({ loam, signal }, { indexDigest }) =>
    loam.store.allowIndex(indexDigest, { signal }),
  'store.fsck': async ({ loam, signal, onEvent }, { repair = false, ...request }) =>
    loam.store.fsck({
      ...toFetchOptions({ signal }, request),
      repair,
      onCheck: (what) => {
        onEvent({ kind: 'check', what })
      },
      onProgress: (progress) => {
        onEvent({ kind: 'work', ...progress })
      },
    }),
  'store.doctor': async ({ loam }) => loam.store.doctor(),
  'store.doctorClient': async ({ loam, daemon: { sockets } }, { client, config }) => {
    const pathOf = (wanted: SocketName) => sockets.find(({ name }) => name === wanted)?.path
    const socket = pathOf('snapshotter')
    return loam.store.doctorClient({ client, config, socket, imageSocket: pathOf('image-service') })
  },
  'store.config': async ({ loam }) => describeSettings(loam.store.configuration),
}
