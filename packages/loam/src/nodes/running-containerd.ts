// Asks a running containerd about itself, by two of its services (api/services/version/v1/version.proto and
// api/services/introspection/v1/introspection.proto; the numbers below are those of the fields).
import { faultOfSocket } from '../errors/index.ts'
import { callGrpc } from './grpc-call.ts'
import { readEntry, readFields } from './protobuf.ts'

/** A plugin that containerd knows. */
export interface LoadedPlugin {
  readonly type: string
  readonly id: string
  readonly exports: ReadonlyMap<string, string>
  readonly capabilities: readonly string[]
  /** Whether it could not be loaded. */
  readonly hasFailed: boolean
}

/** A running containerd. */
export interface RunningContainerd {
  readonly version: string
  readonly plugins: readonly LoadedPlugin[]
}

/** Asks the containerd at a socket. Returns the reason as a sentence if none answers. */
export async function askContainerd(socket: string): Promise<RunningContainerd | string> {
  const empty = new Uint8Array()
  try {
    const [version, plugins] = await Promise.all([
      callGrpc(socket, '/containerd.services.version.v1.Version/Version', empty),
      callGrpc(socket, '/containerd.services.introspection.v1.Introspection/Plugins', empty),
    ])
    return { version: readVersion(version), plugins: readPlugins(plugins) }
  } catch (error) {
    return faultOfSocket(error)
  }
}

function readVersion(bytes: Uint8Array): string {
  let version = ''
  readFields(bytes, {
    1: (reader) => {
      version = reader.string()
    },
  })
  return version
}

function readPlugins(bytes: Uint8Array): LoadedPlugin[] {
  const plugins: LoadedPlugin[] = []
  readFields(bytes, {
    1: (reader) => {
      plugins.push(readPlugin(reader.bytes()))
    },
  })
  return plugins
}

function readPlugin(bytes: Uint8Array): LoadedPlugin {
  const plugin = { type: '', id: '', hasFailed: false }
  const capabilities: string[] = []
  const exports = new Map<string, string>()
  readFields(bytes, {
    1: (reader) => {
      plugin.type = reader.string()
    },
    2: (reader) => {
      plugin.id = reader.string()
    },
    5: (reader) => {
      exports.set(...readEntry(reader.bytes()))
    },
    6: (reader) => {
      capabilities.push(reader.string())
    },
    7: (reader) => {
      plugin.hasFailed = reader.bytes().length > 0
    },
  })
  return { ...plugin, exports, capabilities }
}
