import { LoamError } from '../errors/index.ts'
import type { Platform } from '../image/index.ts'
import { parseRelease, type Release } from './release.ts'

/** Socket of the snapshots API of `loamd`, by default. */
export const SNAPSHOTTER_SOCKET = '/run/loam/snapshotter.sock'
/** Name of the socket of CRI's image service in the state directory. */
export const IMAGE_SERVICE_SOCKET = 'image-service.sock'
/** Name of the snapshotter in the documents. */
export const SNAPSHOTTER_NAME = 'loam'
/** Directory of containerd's files, by default. */
const CONTAINERD_ROOT = '/var/lib/containerd'

/** What the configuration of containerd depends on. */
export interface ContainerdSetup {
  /** Version of containerd, for example `2.1.9`. */
  readonly version: string
  /** Name of the snapshotter. Undefined: `loam`. */
  readonly name?: string
  /** Socket of the snapshots API of `loamd`. Undefined: the default one. */
  readonly socket?: string
  /** Directory of Loam's store. */
  readonly root: string
  /** Platform of this machine. */
  readonly platform: Platform
  /** Directory of containerd's files. Undefined: the default one. */
  readonly containerdRoot?: string
  /** Let containerd fetch the blobs of layers, and Loam take them from its content store. Undefined: Loam fetches them. */
  readonly isDiffer?: boolean
}

/** Returns the configuration of containerd for Loam, as TOML. @throws USAGE if the version cannot be understood */
export function containerdConfig(setup: ContainerdSetup): string {
  const release = parseRelease(setup.version)
  const parts = [
    `version = ${configVersionFor(release)}\n`,
    proxyPluginText(setup, release),
    ...(setup.isDiffer === true ? [differText(setup, release)] : []),
    ...(release.major >= 2 ? [unpackText(setup)] : []),
    criText(setup, release),
    ...(takesExportedRoot(release) ? [] : [`# ${imageFileSystemCommand(setup)}\n`]),
  ]
  return parts.join('\n')
}

/** Version of the format of the file. containerd 2 reads version 2, too, but then ignores CRI's old table. */
export function configVersionFor({ major }: Release): 2 | 3 {
  return major >= 2 ? 3 : 2
}

/** Whether kubelet learns the directory of the images from the plugin: with containerd 1.6.32, 1.7.16 and 2.0. Others ignore the line. */
export function takesExportedRoot({ major, minor, patch }: Release): boolean {
  if (major !== 1) return major >= 2
  return minor === 6 ? patch >= 32 : minor > 7 || (minor === 7 && patch >= 16)
}

/** Whether containerd sends annotations because the plugin asks for them. CRI then pulls by the transfer service. */
export function takesAnnotationsByExport({ major, minor }: Release): boolean {
  return major > 2 || (major === 2 && minor >= 1)
}

/** The proxy plugin that containerd reaches `loamd` by. */
export function proxyPluginText(setup: ContainerdSetup, release: Release): string {
  const { name = SNAPSHOTTER_NAME, socket = SNAPSHOTTER_SOCKET, root } = setup
  const annotations =
    takesAnnotationsByExport(release) && setup.isDiffer !== true
      ? ['    enable_remote_snapshot_annotations = "true"']
      : []
  return lines([
    `[proxy_plugins.${key(name)}]`,
    '  type = "snapshot"',
    `  address = ${text(socket)}`,
    ...(release.major >= 2 ? ['  capabilities = ["remap-ids"]'] : []),
    `  [proxy_plugins.${key(name)}.exports]`,
    `    root = ${text(root)}`,
    ...annotations,
  ])
}

/** containerd's own differ. */
export const WALKING = 'walking'

function differName(name: string): string {
  return `${name}-diff`
}

/** The differ. Loam leaves mounts of other snapshotters to the next one. @throws USAGE for a release that takes no differs */
export function differText(
  { name = SNAPSHOTTER_NAME, socket = SNAPSHOTTER_SOCKET }: ContainerdSetup,
  { major, minor }: Release,
): string {
  if (major < 2 && minor < 7) {
    throw new LoamError('USAGE', `configure containerd ${major}.${minor}: it takes no differ from outside`, {
      hint: 'Use containerd 1.7 or later, or let Loam fetch the layers: leave out --differ.',
    })
  }
  return lines([
    `[proxy_plugins.${key(differName(name))}]`,
    '  type = "diff"',
    `  address = ${text(socket)}`,
    '',
    '[plugins."io.containerd.service.v1.diff-service"]',
    `  default = [${text(differName(name))}, ${text(WALKING)}]`,
  ])
}

/** What containerd's own pulls need. The list replaces containerd's own, so that it also names the snapshotter that is the default. */
export function unpackText({ name = SNAPSHOTTER_NAME, platform, isDiffer }: ContainerdSetup): string {
  const entry = (snapshotter: string, differ: string) => [
    '[[plugins."io.containerd.transfer.v1.local".unpack_config]]',
    `  platform = ${text(platformName(platform))}`,
    `  snapshotter = ${text(snapshotter)}`,
    `  differ = ${text(differ)}`,
  ]
  const own = isDiffer === true ? differName(name) : WALKING
  return lines([...entry(name, own), ...entry('overlayfs', WALKING)])
}

/** What Kubernetes needs. */
export function criText({ name = SNAPSHOTTER_NAME }: ContainerdSetup, release: Release): string {
  const snapshotter = `  snapshotter = ${text(name)}`
  const annotations = '  disable_snapshot_annotations = false'
  if (release.major < 2) {
    return lines(['[plugins."io.containerd.grpc.v1.cri".containerd]', snapshotter, annotations])
  }
  return lines([
    '[plugins."io.containerd.cri.v1.images"]',
    snapshotter,
    ...(takesAnnotationsByExport(release) ? [] : [annotations]),
  ])
}

/** The snapshotter of one runtime of pods. `table` is that of CRI's settings of runtimes. */
export function runtimeText(
  { name = SNAPSHOTTER_NAME }: ContainerdSetup,
  table: string,
  runtime: string,
): string {
  return lines([
    `[plugins.${text(table)}.containerd.runtimes.${key(runtime)}]`,
    `  snapshotter = ${text(name)}`,
  ])
}

/** Directory that kubelet measures images in, unless the plugin names another. */
export function imageFileSystemPath({
  name = SNAPSHOTTER_NAME,
  containerdRoot = CONTAINERD_ROOT,
}: Pick<ContainerdSetup, 'name' | 'containerdRoot'>): string {
  return `${containerdRoot}/io.containerd.snapshotter.v1.${name}`
}

/** Command after which kubelet finds the file system of the images. */
export function imageFileSystemCommand(setup: ContainerdSetup): string {
  return `ln -s ${word(setup.root)} ${word(imageFileSystemPath(setup))}`
}

/** Images of all variants of a processor are unpacked, except on 32-bit ARM, where containerd tells them apart. */
function platformName({ os, architecture, variant }: Platform): string {
  return architecture === 'arm' && variant !== undefined
    ? `${os}/${architecture}/${variant}`
    : `${os}/${architecture}`
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`
}

/** A basic string of TOML is also one of JSON. */
function text(value: string): string {
  return JSON.stringify(value)
}

function key(name: string): string {
  return /^[\w-]+$/.test(name) ? name : text(name)
}

function word(path: string): string {
  return /^[\w./:@%+-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`
}
