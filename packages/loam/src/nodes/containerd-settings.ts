import { isLoamError } from '../errors/index.ts'
import { parsePlatform, type Platform, platformDistance } from '../image/index.ts'
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
/** Table of CRI's settings of runtimes since containerd 2. */
export const CRI_RUNTIME = 'io.containerd.cri.v1.runtime'
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

/** CRI's settings of runtimes in one table. */
export interface CriRuntimes {
  readonly table: string
  /** The runtime of pods that name none. */
  readonly defaultName: string
  /** The snapshotters of runtimes that have their own, by name. */
  readonly snapshotters: ReadonlyMap<string, string>
}

/** A snapshotter that the transfer service unpacks for, and the differ that it does so with. */
export interface UnpackSettings {
  readonly snapshotter: string
  readonly differ: string
  /** The platform whose images it unpacks. Undefined: all. */
  readonly platform: string | undefined
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
  readonly runtimes: CriRuntimes
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
  const { cri, ignoredCri, runtimes } = readCri(plugins, files, major)
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
    cri,
    ignoredCri,
    runtimes,
    unpacks: unpacks.flatMap((entry) => toUnpack(entry, transfer['check_platform_supported'] === true)),
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

/** Returns the first entry by which the transfer service unpacks images of a machine for a snapshotter. */
export function findUnpack(
  { unpacks }: ContainerdSettings,
  name: string,
  machine: Platform,
): UnpackSettings | undefined {
  return unpacks.find(({ snapshotter, platform }) => snapshotter === name && isFor(platform, machine))
}

/** As containerd compares them: an entry is also for older variants than its own. */
function isFor(platform: string | undefined, machine: Platform): boolean {
  if (platform === undefined) return true
  try {
    return platformDistance(parsePlatform(platform), machine) !== undefined
  } catch (error) {
    // containerd accepts other forms.
    if (isLoamError(error, 'PLATFORM_INVALID')) return true
    throw error
  }
}

/**
 * Reads the tables of CRI. containerd 2 takes over the one before it if the last file with a version has version 2: its settings of images only if it has
 * a table of runtimes, and then before the new ones; its settings of runtimes behind the new ones. It ignores the one of version 1.
 */
function readCri(
  plugins: ReadonlyMap<string, Table>,
  files: readonly ContainerdFile[],
  major: number,
): Pick<ContainerdSettings, 'cri' | 'ignoredCri' | 'runtimes'> {
  const oldName = files[0]?.version === 1 ? 'cri' : CRI_OLD
  const oldTable = tableIn((plugins.get(oldName) ?? {})['containerd'])
  const old = criIn(oldName, oldTable)
  const imagesTable = plugins.get(CRI_IMAGES) ?? {}
  const images = criIn(CRI_IMAGES, imagesTable)
  if (major < 2) return { cri: old, ignoredCri: ignored(images), runtimes: runtimesIn(oldName, oldTable) }
  const isTaken = oldName === CRI_OLD && files.findLast((file) => file.version > 1)?.version === 2
  const ownTable = tableIn((plugins.get(CRI_RUNTIME) ?? {})['containerd'])
  const isOldRuntimes = isTaken && !('runtimes' in ownTable)
  const runtimes = runtimesIn(
    isOldRuntimes ? CRI_OLD : CRI_RUNTIME,
    isTaken ? { ...oldTable, ...ownTable } : ownTable,
  )
  if (isTaken && 'runtimes' in oldTable) {
    const table = old.snapshotter === undefined ? CRI_IMAGES : CRI_OLD
    return { cri: criIn(table, { ...imagesTable, ...oldTable }), ignoredCri: undefined, runtimes }
  }
  return { cri: images, ignoredCri: ignored(old), runtimes }
}

function runtimesIn(table: string, section: Table): CriRuntimes {
  const { default_runtime_name: defaultName } = section
  const snapshotters = Object.entries(tableIn(section['runtimes'])).flatMap(([name, runtime]) => {
    const { snapshotter } = tableIn(runtime)
    return typeof snapshotter === 'string' && snapshotter !== '' ? [[name, snapshotter] as const] : []
  })
  return {
    table,
    defaultName: typeof defaultName === 'string' ? defaultName : 'runc',
    snapshotters: new Map(snapshotters),
  }
}

function criIn(table: string, section: Table): CriSettings {
  const { snapshotter, disable_snapshot_annotations: disabled } = section
  return {
    table,
    snapshotter: typeof snapshotter === 'string' ? snapshotter : undefined,
    areAnnotationsDisabled: typeof disabled === 'boolean' ? disabled : undefined,
  }
}

function toUnpack(entry: unknown, isPlatformChecked: boolean): UnpackSettings[] {
  const { snapshotter, differ, platform } = tableIn(entry)
  if (typeof snapshotter !== 'string') return []
  return [
    {
      snapshotter,
      differ: typeof differ === 'string' && differ !== '' ? differ : WALKING,
      platform: isPlatformChecked && typeof platform === 'string' ? platform : undefined,
    },
  ]
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
