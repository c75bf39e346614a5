import { isLoamError } from '../errors/index.ts'
import { SNAPSHOTTER_NAME } from './containerd-config.ts'
import { dockerConfig } from './docker-config.ts'
import {
  askDocker,
  DOCKER_CONFIG,
  dockerSocket,
  type DockerSettings,
  readDockerSettings,
  type RunningDocker,
} from './docker-settings.ts'
import { parseRelease } from './release.ts'
import type { NodeFinding, NodeReport } from './report.ts'

/** First major version of Docker that fetches the layers itself, whatever a snapshotter has. */
const FETCHES_ALL = 29

/** Checks the configuration of Docker on this machine, and asks the Docker that runs. It changes nothing. */
export async function examineDocker(config = DOCKER_CONFIG): Promise<NodeReport> {
  const settings = readSettings(config)
  const socket = dockerSocket(typeof settings === 'string' ? { hosts: [] } : settings)
  const running = await askDocker(socket)
  const version = typeof running === 'string' ? undefined : running.version
  const findings = [...checkSettings(settings), ...checkRunning(running, socket)]
  return { config, version, findings }
}

/** Returns the reason as a sentence if the file cannot be read. */
function readSettings(config: string): DockerSettings | string {
  try {
    return readDockerSettings(config)
  } catch (error) {
    if (!isLoamError(error)) throw error
    return error.message
  }
}

function checkSettings(settings: DockerSettings | string): NodeFinding[] {
  const write = dockerConfig()
  const what = 'config'
  if (typeof settings === 'string') return [{ status: 'wrong', what, message: settings, write }]
  const hasFeature = settings.features['containerd-snapshotter'] === true
  const driver = settings['storage-driver']
  return [
    hasFeature
      ? { status: 'right', what, message: "Docker keeps its images in containerd's store" }
      : { status: 'missing', what, message: 'the feature containerd-snapshotter is not on', write },
    driver === SNAPSHOTTER_NAME
      ? { status: 'right', what, message: `the storage driver is ${driver}` }
      : { status: 'missing', what, message: `the storage driver is ${driver ?? 'not set'}`, write },
  ]
}

function checkRunning(running: RunningDocker | string, socket: string): NodeFinding[] {
  const what = 'docker'
  if (typeof running === 'string') {
    const message = `does not answer at ${socket}: ${running}`
    return [{ status: 'missing', what, message, run: 'systemctl start docker' }]
  }
  const { version, driver, isSnapshotter, containerd } = running
  const isOwn = containerd?.includes('/docker/containerd/') === true
  const run = 'systemctl restart docker'
  return [
    { status: 'right', what, message: `${version} answers at ${socket}` },
    driver === SNAPSHOTTER_NAME && isSnapshotter
      ? { status: 'right', what, message: usesLoam(driver) }
      : { status: 'wrong', what, message: `the Docker that runs uses ${driver}`, run },
    ...(isOwn ? [ownContainerd(containerd)] : []),
    ...(parseRelease(version).major >= FETCHES_ALL ? [fetchesAll(version)] : []),
  ]
}

function usesLoam(driver: string): string {
  return `it uses the snapshotter ${driver}; before \`docker save\` and pushes of commits run \`loam snapshot fetch IMAGE\`, unless Loam is a differ`
}

function ownContainerd(address: string): NodeFinding {
  const message = `it runs a containerd of its own at ${address}, which does not read the configuration of containerd: start it with --containerd=/run/containerd/containerd.sock`
  return { status: 'wrong', what: 'docker', message }
}

function fetchesAll(version: string): NodeFinding {
  const message = `Docker ${version} fetches every layer itself, also those that Loam has`
  return { status: 'note', what: 'docker', message }
}
