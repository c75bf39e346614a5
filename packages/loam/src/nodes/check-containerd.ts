import { formatPlatform, type Platform } from '../image/index.ts'
import {
  configVersionFor,
  type ContainerdSetup,
  criText,
  imageFileSystemCommand,
  imageFileSystemPath,
  proxyPluginText,
  runtimeText,
  SNAPSHOTTER_NAME,
  takesAnnotationsByExport,
  takesExportedRoot,
  unpackText,
} from './containerd-config.ts'
import {
  type ContainerdSettings,
  CRI_IMAGES,
  CRI_OLD,
  findProxy,
  findUnpack,
  type ProxyPlugin,
} from './containerd-settings.ts'
import { checkDiffer, findDiffer } from './check-differ.ts'
import { parseRelease, type Release } from './release.ts'
import { checkImageService, type ImageService } from './image-service.ts'
import type { NodeFinding } from './report.ts'
import type { RunningContainerd } from './running-containerd.ts'

/** What is known about a node. */
export interface ContainerdNode {
  readonly settings: ContainerdSettings
  /** Version that the settings are checked for. */
  readonly version: string
  /** The containerd that runs, or why none answers. */
  readonly running: RunningContainerd | string
  readonly loam: {
    /** Directory of the store. */
    readonly root: string
    /** Socket of its snapshots API. */
    readonly socket: string
    /** Whether a process listens there. */
    readonly isListening: boolean
    /** Socket of containerd that loamd reads layers from, as a differ. */
    readonly containerdSocket: string
    /** Whether the layers below a snapshot are mounts of EROFS that containerd makes. */
    readonly returnsErofs?: boolean | undefined
    readonly platform: Platform
  }
  readonly imageService: ImageService
  /** Returns whether two paths are in one file system; undefined if the first does not exist. */
  readonly isOnFileSystemOf: (path: string, other: string) => boolean | undefined
}

/** The blobs of layers that Loam fetches are not in the content store. */
const NAMES_LAYERS =
  'containerd names image and layer to Loam; `loam snapshot fetch IMAGE` brings the blobs that exports and pushes need'

/** A node with what follows from it. */
interface Context extends ContainerdNode {
  readonly release: Release
  readonly proxy: ProxyPlugin | undefined
  readonly name: string
  readonly setup: ContainerdSetup
}

/** Compares the configuration of containerd with what Loam needs. */
export function checkContainerd(node: ContainerdNode): NodeFinding[] {
  const { settings, version, loam } = node
  const proxy = findProxy(settings, loam.socket)
  const name = proxy?.name ?? SNAPSHOTTER_NAME
  const { root, socket, platform } = loam
  const setup = { version, name, root, socket, platform, containerdRoot: settings.root }
  const context = { ...node, release: parseRelease(version), proxy, name, setup }
  const checks = [
    checkRunning,
    checkFormat,
    checkSocket,
    checkProxy,
    checkMounts,
    checkExports,
    checkDiffer,
    checkCapabilities,
    checkLoaded,
    checkUnpack,
    checkCri,
    checkImageFileSystem,
  ]
  return checks.flatMap((check) => check(context))
}

function checkRunning({ running, settings, version }: Context): NodeFinding[] {
  const what = 'containerd'
  if (typeof running === 'string') {
    const message = `does not answer at ${settings.address}: ${running}. The rest is checked for ${version}`
    return [{ status: 'missing', what, message, run: 'systemctl start containerd' }]
  }
  return [{ status: 'right', what, message: `${running.version} answers at ${settings.address}` }]
}

function checkFormat({ settings, release }: Context): NodeFinding[] {
  const expected = configVersionFor(release)
  const what = 'version'
  const write = `version = ${expected}\n`
  if (settings.files.length === 0) {
    return [{ status: 'missing', what, message: 'the file does not exist', write }]
  }
  if (release.major < 2 && settings.version > 2) {
    const message = `containerd ${release.major}.${release.minor} reads nothing of a file of version ${settings.version}`
    return [{ status: 'wrong', what, message, write }]
  }
  if (settings.version < 2) {
    const message = 'a file without version, or of version 1, has other names for plugins'
    return [{ status: 'wrong', what, message, write }]
  }
  return [{ status: 'right', what, message: `the file has version ${settings.version}` }]
}

function checkSocket({ loam }: Context): NodeFinding[] {
  const what = 'loamd'
  if (loam.isListening) return [{ status: 'right', what, message: `listens on ${loam.socket}` }]
  const message = `does not listen on ${loam.socket}`
  return [{ status: 'missing', what, message, run: 'loamd install' }]
}

function checkProxy({ proxy, setup, release, loam }: Context): NodeFinding[] {
  const what = 'proxy plugin'
  const write = proxyPluginText(setup, release)
  if (proxy === undefined) {
    return [{ status: 'missing', what, message: 'containerd does not know Loam', write }]
  }
  if (proxy.type !== 'snapshot') {
    return [
      { status: 'wrong', what, message: `${proxy.name} has the type ${JSON.stringify(proxy.type)}`, write },
    ]
  }
  if (proxy.address !== loam.socket) {
    const message = `${proxy.name} has the address ${JSON.stringify(proxy.address)}, and loamd has ${loam.socket}`
    return [{ status: 'wrong', what, message, write }]
  }
  return [{ status: 'right', what, message: `${proxy.name} is at ${proxy.address}` }]
}

/** The mount manager, which knows mounts that refer to each other, came with 2.2. */
function checkMounts({ release: { major, minor }, loam }: Context): NodeFinding[] {
  if (loam.returnsErofs !== true) return []
  const what = 'snapshot_mounts'
  if (major > 2 || (major === 2 && minor >= 2))
    return [{ status: 'right', what, message: 'containerd mounts what loamd returns' }]
  const message = `containerd ${major}.${minor} cannot mount what snapshot_mounts=erofs returns, 2.2 can. Set it to overlay in Loam's configuration`
  return [{ status: 'wrong', what, message }]
}

function checkExports({ proxy, release, setup, settings, loam }: Context): NodeFinding[] {
  // Where containerd fetches the layers, Loam needs not know the image.
  if (findDiffer({ settings, loam }) !== undefined) return []
  if (proxy === undefined || !takesAnnotationsByExport(release)) return []
  const what = 'annotations'
  if (proxy.exports['enable_remote_snapshot_annotations'] === 'true') {
    return [{ status: 'right', what, message: NAMES_LAYERS }]
  }
  const message = 'containerd does not name image and layer to Loam, so that it unpacks all layers itself'
  return [{ status: 'missing', what, message, write: proxyPluginText(setup, release) }]
}

function checkCapabilities({ proxy, release, setup }: Context): NodeFinding[] {
  if (proxy === undefined || release.major < 2) return []
  const what = 'capabilities'
  if (proxy.capabilities.includes('rebase')) {
    const message =
      'remove "rebase": no test shows that layers which containerd unpacks in parallel are right'
    return [{ status: 'wrong', what, message }]
  }
  if (proxy.capabilities.includes('remap-ids')) {
    return [{ status: 'right', what, message: 'containers in user namespaces share the layers' }]
  }
  const message = 'without "remap-ids" containerd copies the image for containers in user namespaces'
  return [{ status: 'missing', what, message, write: proxyPluginText(setup, release) }]
}

function checkLoaded({ running, name, proxy }: Context): NodeFinding[] {
  if (typeof running === 'string' || proxy === undefined) return []
  const what = 'running'
  const plugin = running.plugins.find(
    ({ type, id }) => type === 'io.containerd.snapshotter.v1' && id === name,
  )
  const run = 'systemctl restart containerd'
  if (plugin === undefined) {
    const message = `the containerd that runs does not have the plugin ${name}: it has read another configuration`
    return [{ status: 'missing', what, message, run }]
  }
  if (plugin.hasFailed) return [{ status: 'wrong', what, message: `${name} could not be loaded`, run }]
  const address = plugin.exports.get('address')?.replace(/^unix:\/\//, '')
  if (address !== undefined && address !== proxy.address) {
    const message = `the containerd that runs has ${name} at ${address}: it has read another configuration`
    return [{ status: 'wrong', what, message, run }]
  }
  return [{ status: 'right', what, message: `containerd has loaded ${name}` }]
}

function checkUnpack({ release, settings, name, setup }: Context): NodeFinding[] {
  if (release.major < 2) return []
  const what = 'unpack_config'
  if (findUnpack(settings, name, setup.platform) !== undefined) {
    return [{ status: 'right', what, message: `the transfer service pulls for ${name}` }]
  }
  const other = settings.unpacks.find(({ snapshotter }) => snapshotter === name)
  if (other !== undefined) {
    const message = `the entry for ${name} is for ${other.platform}, this machine is ${formatPlatform(setup.platform)}, and check_platform_supported is true`
    return [{ status: 'wrong', what, message, write: unpackText(setup) }]
  }
  const message = `the transfer service refuses to pull for ${name} ("no unpack platforms defined")`
  return [{ status: 'missing', what, message, write: unpackText(setup) }]
}

function checkCri(context: Context): NodeFinding[] {
  const { settings, release, name, setup } = context
  const { cri, ignoredCri, disabledPlugins } = settings
  const what = 'Kubernetes'
  const plugins = release.major < 2 ? [CRI_OLD, 'cri'] : [CRI_OLD, CRI_IMAGES]
  if (disabledPlugins.some((plugin) => plugins.includes(plugin))) {
    return [{ status: 'note', what, message: 'CRI is disabled' }]
  }
  const write = criText(setup, release)
  if (cri.snapshotter === undefined && ignoredCri !== undefined) {
    const message = `containerd ${release.major}.${release.minor} ignores the snapshotter in ${ignoredCri.table}, and uses overlayfs`
    return [{ status: 'wrong', what, message, write }]
  }
  if (cri.snapshotter !== name) {
    const message = `pods use the snapshotter ${cri.snapshotter ?? 'overlayfs'}`
    return [{ status: 'missing', what, message, write }]
  }
  const runtimes = checkRuntimes(context)
  const right: NodeFinding = { status: 'right', what, message: `pods use ${name}` }
  const isRight = runtimes.every(({ status }) => status === 'note')
  const credentials = findDiffer(context) === undefined ? checkImageService(context.imageService) : []
  return [...(isRight ? [right] : []), ...runtimes, ...checkCriAnnotations(context), ...credentials]
}

/** The snapshotter of a runtime comes before that of all pods. */
function checkRuntimes({ settings, release, name, setup }: Context): NodeFinding[] {
  // containerd 1.6 ignores it.
  if (release.major < 2 && release.minor < 7) return []
  const { table, defaultName, snapshotters } = settings.runtimes
  const others = [...snapshotters].filter(([, snapshotter]) => snapshotter !== name)
  return others.map(([runtime, snapshotter]) => {
    const what = 'Kubernetes'
    if (runtime !== defaultName)
      return { status: 'note', what, message: `pods of the runtime ${runtime} use ${snapshotter}` }
    const message = `pods use ${snapshotter}: their runtime ${runtime} has this snapshotter of its own`
    return { status: 'wrong', what, message, write: runtimeText(setup, table, runtime) }
  })
}

function checkCriAnnotations({ settings, release, setup }: Context): NodeFinding[] {
  const { areAnnotationsDisabled } = settings.cri
  const what = 'Kubernetes'
  if (takesAnnotationsByExport(release)) {
    if (areAnnotationsDisabled !== false) return []
    const message =
      'disable_snapshot_annotations = false makes CRI pull by itself, which containerd no longer recommends; leave it out'
    return [{ status: 'note', what, message }]
  }
  if (areAnnotationsDisabled === false) {
    return [{ status: 'right', what, message: NAMES_LAYERS }]
  }
  const message = 'CRI does not name image and layer to Loam, so that containerd unpacks all layers itself'
  return [{ status: 'missing', what, message, write: criText(setup, release) }]
}

/** kubelet measures the file system of the images, and removes images when it is full. */
function checkImageFileSystem({ proxy, release, loam, setup, isOnFileSystemOf }: Context): NodeFinding[] {
  if (proxy === undefined) return []
  const what = 'file system'
  const exported = takesExportedRoot(release) ? proxy.exports['root'] : undefined
  if (typeof exported === 'string' && exported !== '') {
    if (isOnFileSystemOf(exported, loam.root) === true) {
      return [{ status: 'right', what, message: `kubelet measures ${exported}` }]
    }
    const message = `kubelet measures ${exported}, and the store is ${loam.root}`
    return [{ status: 'wrong', what, message, write: proxyPluginText(setup, release) }]
  }
  const path = imageFileSystemPath(setup)
  const isRight = isOnFileSystemOf(path, loam.root)
  if (isRight === true) return [{ status: 'right', what, message: `kubelet measures ${path}` }]
  const message =
    isRight === undefined
      ? `kubelet measures ${path}, which does not exist: it removes no images when the disk is full`
      : `kubelet measures ${path}, which is not on the file system of ${loam.root}`
  const status = isRight === undefined ? 'missing' : 'wrong'
  return takesExportedRoot(release)
    ? [{ status, what, message, write: proxyPluginText(setup, release) }]
    : [{ status, what, message, run: imageFileSystemCommand(setup) }]
}
