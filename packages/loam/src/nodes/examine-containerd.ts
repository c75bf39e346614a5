import { statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Platform } from '../image/index.ts'
import { isErrno, isLoamError } from '../errors/index.ts'
import { canConnect } from '../linux/index.ts'
import { checkContainerd } from './check-containerd.ts'
import { IMAGE_SERVICE_SOCKET, SNAPSHOTTER_SOCKET } from './containerd-config.ts'
import { CONTAINERD_CONFIG } from './containerd-files.ts'
import { type ContainerdSettings, findProxy, readContainerdSettings } from './containerd-settings.ts'
import { examineImageService } from './image-service.ts'
import { parseRelease } from './release.ts'
import type { NodeReport } from './report.ts'
import { askContainerd } from './running-containerd.ts'

/** What a check of containerd's configuration starts from. */
export interface ContainerdExamination {
  /** Absolute path of the configuration file. Undefined: /etc/containerd/config.toml. */
  readonly config: string | undefined
  /** Directory of Loam's store. */
  readonly root: string
  /** Socket of the snapshots API of the `loamd` that runs. Undefined: the default one. */
  readonly socket: string | undefined
  /** Socket of the image service of the `loamd` that runs. Undefined: the default one. */
  readonly imageSocket?: string | undefined
  /** Setting containerd_socket. */
  readonly containerdSocket: string
  /** Whether setting snapshot_mounts is `erofs`. */
  readonly returnsErofs?: boolean | undefined
  /** Platform of this machine. */
  readonly platform: Platform
}

/** Versions that a configuration is checked for where no containerd runs, by the format of the file. */
const ASSUMED_VERSIONS: Readonly<Record<number, string>> = { 1: '1.6', 2: '1.6' }
const ASSUMED_VERSION = '2.1'

/** Checks the configuration of containerd on this machine, and asks the containerd that runs. It changes nothing. */
export async function examineContainerd(options: ContainerdExamination): Promise<NodeReport> {
  const { config = CONTAINERD_CONFIG, root, platform, containerdSocket, returnsErofs } = options
  const first = readSettings(config, 2)
  if (typeof first === 'string') return unreadable(config, first)
  const running = await askContainerd(first.address)
  const version =
    typeof running === 'string' ? (ASSUMED_VERSIONS[first.version] ?? ASSUMED_VERSION) : running.version
  const settings = readSettings(config, parseRelease(version).major)
  if (typeof settings === 'string') return unreadable(config, settings)
  const socket = options.socket ?? (findProxy(settings, SNAPSHOTTER_SOCKET)?.address || SNAPSHOTTER_SOCKET)
  const isListening = await canConnect(socket)
  const loam = { root, socket, platform, containerdSocket, returnsErofs, isListening }
  const imageService = await examineImageService(
    options.imageSocket ?? join(dirname(SNAPSHOTTER_SOCKET), IMAGE_SERVICE_SOCKET),
  )
  const findings = checkContainerd({ settings, version, running, loam, imageService, isOnFileSystemOf })
  return { config, version: typeof running === 'string' ? undefined : running.version, findings }
}

/** Returns the reason as a sentence if the files cannot be read. */
function readSettings(config: string, major: number): ContainerdSettings | string {
  try {
    return readContainerdSettings(config, major)
  } catch (error) {
    if (!isLoamError(error)) throw error
    return error.message
  }
}

function unreadable(config: string, message: string): NodeReport {
  return { config, version: undefined, findings: [{ status: 'wrong', what: 'config', message }] }
}

function isOnFileSystemOf(path: string, other: string): boolean | undefined {
  try {
    return statSync(path).dev === statSync(other).dev
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return undefined
    throw error
  }
}
