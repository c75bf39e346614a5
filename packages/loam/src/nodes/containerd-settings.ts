import {
  type ContainerdFile,
  mergePlugins,
  mergeProxies,
  readContainerdFiles,
  type Table,
  tableIn,
  textsIn,
} from './containerd-files.ts'
import { SNAPSHOTTER_NAME, WALKING } from './containerd-config.ts'

/** Table of CRI's settings of images since containerd 2. */
export const CRI_IMAGES = 'io.containerd.cri.v1.images'
/** Table of CRI's settings before containerd 2. */
export const CRI_OLD = 'io.containerd.grpc.v1.cri'

/** A proxy plugin in containerd's configuration. */
export interface ProxyPlugin {
  readonly name: string
  readonly type: string
  /** Path of its socket. */
  readonly address: string
  readonly exports: Table
  readonly capabilities: readonly string[]
}

/** CRI's settings of images in one table. */
export interface CriSettings {
  readonly table: string
  readonly snapshotter: string | undefined
  /** Undefined: the default, true. */
  readonly areAnnotationsDisabled: boolean | undefined
}

/** A snapshotter that the transfer service unpacks for, and the differ that it does so with. */
export interface UnpackSettings {
  readonly snapshotter: string
  readonly differ: string
}

/** The part of containerd's configuration that concerns a snapshotter, as one release of containerd reads it. */
export interface ContainerdSettings {
  readonly files: readonly Pick<ContainerdFile, 'path' | 'version'>[]
  /** Version of the format of the first file. */
  readonly version: number
  /** Path of containerd's socket. */
  readonly address: string
  /** Directory of containerd's files. */
  readonly root: string
  readonly disabledPlugins: readonly string[]
  readonly proxies: readonly ProxyPlugin[]
  /** The table that this release reads. */
  readonly cri: CriSettings
  /** A table that this release ignores. */
  readonly ignoredCri: CriSettings | undefined
  /** Snapshotters that the transfer service unpacks for. */
  readonly unpacks: readonly UnpackSettings[]
  /** Differs that containerd asks, in turn. */
  readonly differs: readonly string[]
}

/** Reads what concerns snapshotters from the configuration of a release of containerd. @throws CONFIG_INVALID, and system errors */
export function readContainerdSettings(path: string, major: number): ContainerdSettings {
  const files = readContainerdFiles(path, major)
  const plugins = mergePlugins(files, major)
  const version = files[0]?.version ?? (major < 2 ? 2 : 3)
  const old = criIn(CRI_OLD, tableIn((plugins.get(CRI_OLD) ?? {})['containerd']))
  // containerd 2 ignores the tables of version 1, too.
  const oldest = criIn('cri', tableIn((plugins.get('cri') ?? {})['containerd']))
  const images = criIn(CRI_IMAGES, plugins.get(CRI_IMAGES) ?? {})
  const before2 = version < 2 ? oldest : old
  const transfer = plugins.get('io.containerd.transfer.v1.local') ?? {}
  const diff = plugins.get('io.containerd.service.v1.diff-service') ?? {}
  const unpacks = Array.isArray(transfer['unpack_config']) ? transfer['unpack_config'] : []
  return {
    files: files.map(({ path: each, version: format }) => ({ path: each, version: format })),
    version,
    address:
      lastText(files, (values) => tableIn(values['grpc'])['address']) ?? '/run/containerd/containerd.sock',
    root: lastText(files, (values) => values['root']) ?? '/var/lib/containerd',
    disabledPlugins: files.flatMap(({ values }) => textsIn(values['disabled_plugins'])),
    proxies: [...mergeProxies(files)].map(([name, proxy]) => toProxy(name, proxy)),
    cri: major < 2 ? before2 : images,
    ignoredCri: ignored(major < 2 ? images : before2),
    unpacks: unpacks.flatMap(toUnpack),
    differs: 'default' in diff ? textsIn(diff['default']) : [WALKING],
  }
}

/** Returns the plugin of a socket, else the one with the usual name. */
export function findProxy({ proxies }: ContainerdSettings, socket: string): ProxyPlugin | undefined {
  const snapshotters = proxies.filter(({ type }) => type === 'snapshot')
  return (
    snapshotters.find(({ address }) => address === socket) ??
    proxies.find(({ name }) => name === SNAPSHOTTER_NAME)
  )
}

function criIn(table: string, section: Table): CriSettings {
  const { snapshotter, disable_snapshot_annotations: disabled } = section
  return {
    table,
    snapshotter: typeof snapshotter === 'string' ? snapshotter : undefined,
    areAnnotationsDisabled: typeof disabled === 'boolean' ? disabled : undefined,
  }
}

function toUnpack(entry: unknown): UnpackSettings[] {
  const { snapshotter, differ } = tableIn(entry)
  if (typeof snapshotter !== 'string') return []
  return [{ snapshotter, differ: typeof differ === 'string' && differ !== '' ? differ : WALKING }]
}

function ignored(cri: CriSettings): CriSettings | undefined {
  return cri.snapshotter === undefined ? undefined : cri
}

function toProxy(name: string, proxy: Table): ProxyPlugin {
  const { type, address, exports, capabilities } = proxy
  return {
    name,
    type: typeof type === 'string' ? type : '',
    address: typeof address === 'string' ? address.replace(/^unix:\/\//, '') : '',
    exports: tableIn(exports),
    capabilities: textsIn(capabilities),
  }
}

function lastText(files: readonly ContainerdFile[], read: (values: Table) => unknown): string | undefined {
  return textsIn(files.map(({ values }) => read(values))).findLast((value) => value !== '')
}
