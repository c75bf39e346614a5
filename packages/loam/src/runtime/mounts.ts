import { LoamError } from '../errors/index.ts'
import type { Confinement } from './confinement.ts'

/** A mount of an OCI runtime configuration (runtime-spec config.md, "Mounts"). */
export interface RuntimeMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** How something of this machine or of another image is shown: as podman has it, it brings no rights of its own. */
export const BIND_OPTIONS: readonly string[] = ['rbind', 'rprivate', 'nosuid', 'nodev']

/** An image to be mounted, as `--mount type=image` names it. */
export interface ImageMount {
  readonly image: string
  readonly target: string
  readonly isReadOnly: boolean
}

const HINT =
  'Write type=bind,source=/host/path,target=/path[,readonly], type=tmpfs,target=/path or type=image,source=IMAGE,target=PATH[,readonly].'

/**
 * Parses `type=bind,source=/host,target=/path[,readonly]` or `type=tmpfs,target=/path[,tmpfs-size=BYTES]`, as Docker
 * and podman write mounts. @throws USAGE
 */
export function parseMount(text: string): RuntimeMount {
  const fields = parseFields(text)
  const target = fields.get('target')
  if (target === undefined || !target.startsWith('/')) throw invalid(text, 'it needs an absolute target')
  const mode = isTrue(fields.get('readonly')) ? 'ro' : 'rw'
  switch (fields.get('type') ?? 'bind') {
    case 'bind': {
      const source = fields.get('source')
      if (source === undefined || !source.startsWith('/')) throw invalid(text, 'it needs an absolute source')
      return { destination: target, type: 'bind', source, options: [...BIND_OPTIONS, mode] }
    }
    case 'tmpfs': {
      const size = fields.get('tmpfs-size')
      const options = ['nosuid', 'nodev', mode, ...(size === undefined ? [] : [`size=${size}`])]
      return { destination: target, type: 'tmpfs', source: 'tmpfs', options }
    }
    default:
      throw invalid(text, 'its type is neither bind nor tmpfs nor image')
  }
}

/** Parses `type=image,source=IMAGE,target=PATH[,readonly]`, an absolute path or one in the sandbox folder; undefined for mounts of other types. @throws USAGE */
export function parseImageMount(text: string): ImageMount | undefined {
  const fields = parseFields(text)
  if (fields.get('type') !== 'image') return undefined
  const image = fields.get('source')
  const target = fields.get('target')
  if (image === undefined || image === '') throw invalid(text, 'it needs an image as its source')
  if (target === undefined || target === '') throw invalid(text, 'it needs a target')
  // podman says rw=false for the same.
  const isReadOnly = isTrue(fields.get('readonly')) || fields.get('rw') === 'false'
  return { image, target, isReadOnly }
}

function parseFields(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const field of text.split(',')) {
    const equals = field.indexOf('=')
    const key = equals < 0 ? field : field.slice(0, equals)
    fields.set(ALIASES[key] ?? key, equals < 0 ? 'true' : field.slice(equals + 1))
  }
  const unknown = [...fields.keys()].find((key) => !KEYS.includes(key))
  if (unknown !== undefined) throw invalid(text, `${JSON.stringify(unknown)} is not known`)
  return fields
}

function invalid(text: string, why: string): LoamError {
  return new LoamError('USAGE', `parse mount ${JSON.stringify(text)}: ${why}`, { hint: HINT })
}

const ALIASES: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
}
const KEYS: readonly string[] = ['type', 'source', 'target', 'readonly', 'rw', 'tmpfs-size']

function isTrue(text: string | undefined): boolean {
  return text === 'true' || text === '1'
}

/** What every container sees: kernel file systems and devices, as runc's and Docker's own defaults have them. */
export function kernelMounts({ owner, network }: Pick<Confinement, 'owner' | 'network'>): RuntimeMount[] {
  const mount = (destination: string, type: string, ...options: readonly string[]): RuntimeMount => ({
    destination,
    type,
    source: type,
    options: ['nosuid', ...options],
  })
  return [
    mount('/proc', 'proc', 'noexec', 'nodev'),
    mount('/dev', 'tmpfs', 'noexec', 'strictatime', 'mode=755', 'size=65536k'),
    // Terminals belong to Debian's group tty; a user who is not root has no such group to give.
    mount(
      '/dev/pts',
      'devpts',
      'noexec',
      'newinstance',
      'ptmxmode=0666',
      'mode=0620',
      ...(owner === undefined ? ['gid=5'] : []),
    ),
    mount('/dev/shm', 'tmpfs', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
    mount('/dev/mqueue', 'mqueue', 'noexec', 'nodev'),
    // It shows the devices of a network, and only root of that network may mount it.
    owner !== undefined && network.kind !== 'none'
      ? {
          destination: '/sys',
          type: 'bind',
          source: '/sys',
          options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev', 'ro'],
        }
      : mount('/sys', 'sysfs', 'noexec', 'nodev', 'ro'),
  ]
}
