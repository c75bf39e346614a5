import { json } from 'node:stream/consumers'
import * as v from 'valibot'
import { faultOfSocket, isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'

/** Configuration file of Docker, by default. */
export const DOCKER_CONFIG = '/etc/docker/daemon.json'
const DOCKER_SOCKET = '/var/run/docker.sock'
const MAX_FILE_BYTES = 4 << 20
const TIMEOUT_MS = 10_000

const SettingsSchema = v.object({
  features: v.optional(v.record(v.string(), v.unknown()), {}),
  'storage-driver': v.optional(v.string()),
  hosts: v.optional(v.array(v.string()), []),
})

/** The part of Docker's configuration that concerns a snapshotter. */
export type DockerSettings = v.InferOutput<typeof SettingsSchema>

const InfoSchema = v.object({
  ServerVersion: v.string(),
  Driver: v.string(),
  DriverStatus: v.optional(v.nullable(v.array(v.array(v.string())))),
  Containerd: v.optional(v.nullable(v.object({ Address: v.optional(v.string(), '') }))),
})

/** A running Docker. */
export interface RunningDocker {
  readonly version: string
  readonly driver: string
  /** Whether the driver is a snapshotter of containerd. */
  readonly isSnapshotter: boolean
  /** Socket of its containerd; undefined if it does not tell. */
  readonly containerd: string | undefined
}

/** Reads Docker's configuration. @throws CONFIG_INVALID, and system errors */
export function readDockerSettings(path: string): DockerSettings {
  let value: unknown
  try {
    value = JSON.parse(readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID').toString('utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) throw new LoamError('CONFIG_INVALID', `read ${path}: ${error.message}`)
    if (isErrno(error, 'ENOENT', 'ENOTDIR'))
      throw new LoamError('CONFIG_INVALID', `read ${path}: it does not exist`)
    throw toLoamError(error, `read ${path}`)
  }
  const parsed = v.safeParse(SettingsSchema, value)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw new LoamError(
    'CONFIG_INVALID',
    `read ${path}: ${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`,
  )
}

/** Socket of Docker's API. */
export function dockerSocket({ hosts }: Pick<DockerSettings, 'hosts'>): string {
  return hosts.find((host) => host.startsWith('unix://'))?.slice('unix://'.length) ?? DOCKER_SOCKET
}

/** Asks the Docker at a socket. Returns the reason as a sentence if none answers. */
export async function askDocker(socketPath: string): Promise<RunningDocker | string> {
  try {
    const parsed = v.safeParse(InfoSchema, await getInfo(socketPath))
    if (!parsed.success) return 'the answer is not one of Docker'
    const { ServerVersion, Driver, DriverStatus, Containerd } = parsed.output
    const address = Containerd?.Address
    return {
      version: ServerVersion,
      driver: Driver,
      isSnapshotter: DriverStatus?.some(([, value]) => value === 'io.containerd.snapshotter.v1') === true,
      containerd: address === '' ? undefined : address,
    }
  } catch (error) {
    return faultOfSocket(error)
  }
}

async function getInfo(socketPath: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  const headers = { host: 'docker' }
  const { request } = process.getBuiltinModule('node:http')
  const asked = request({ socketPath, path: '/info', headers, timeout: TIMEOUT_MS }, (response) => {
    json(response).then(resolve, reject)
  })
  asked.on('error', reject)
  asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)))
  asked.end()
  return promise
}
