import { LoamError } from '../errors/index.ts'

/** A mount of an OCI runtime configuration (runtime-spec config.md, "Mounts"). */
export interface RuntimeMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/**
 * Parses `type=bind,source=/host,target=/path[,readonly]` or `type=tmpfs,target=/path[,tmpfs-size=BYTES]`, as Docker
 * and podman write mounts. @throws USAGE
 */
export function parseMount(text: string): RuntimeMount {
  const invalid = (why: string) =>
    new LoamError('USAGE', `parse mount ${JSON.stringify(text)}: ${why}`, {
      hint: 'Write type=bind,source=/host/path,target=/path[,readonly] or type=tmpfs,target=/path.',
    })
  const fields = new Map<string, string>()
  for (const field of text.split(',')) {
    const equals = field.indexOf('=')
    const key = equals < 0 ? field : field.slice(0, equals)
    fields.set(ALIASES[key] ?? key, equals < 0 ? 'true' : field.slice(equals + 1))
  }
  const unknown = [...fields.keys()].find((key) => !KEYS.includes(key))
  if (unknown !== undefined) throw invalid(`${JSON.stringify(unknown)} is not known`)
  const target = fields.get('target')
  if (target === undefined || !target.startsWith('/')) throw invalid('it needs an absolute target')
  const mode = isTrue(fields.get('readonly')) ? 'ro' : 'rw'
  switch (fields.get('type') ?? 'bind') {
    case 'bind': {
      const source = fields.get('source')
      if (source === undefined || !source.startsWith('/')) throw invalid('it needs an absolute source')
      return { destination: target, type: 'bind', source, options: ['rbind', 'rprivate', mode] }
    }
    case 'tmpfs': {
      const size = fields.get('tmpfs-size')
      const options = ['nosuid', 'nodev', mode, ...(size === undefined ? [] : [`size=${size}`])]
      return { destination: target, type: 'tmpfs', source: 'tmpfs', options }
    }
    default:
      throw invalid('its type is neither bind nor tmpfs')
  }
}

const ALIASES: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
}
const KEYS: readonly string[] = ['type', 'source', 'target', 'readonly', 'tmpfs-size']

function isTrue(text: string | undefined): boolean {
  return text === 'true' || text === '1'
}

/** What every container sees: kernel file systems and devices, as runc's and Docker's own defaults have them. */
export const DEFAULT_MOUNTS: readonly RuntimeMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
  {
    destination: '/dev/mqueue',
    type: 'mqueue',
    source: 'mqueue',
    options: ['nosuid', 'noexec', 'nodev'],
  },
  {
    destination: '/sys',
    type: 'sysfs',
    source: 'sysfs',
    options: ['nosuid', 'noexec', 'nodev', 'ro'],
  },
]
