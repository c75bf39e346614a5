import { LoamError } from '../errors/index.ts'
import { type IdMapping, toHostId } from '../linux/index.ts'
import type { Confinement } from './confinement.ts'

/** A mount of an OCI runtime configuration (runtime-spec config.md, "Mounts"). */
export interface RuntimeMount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

/** Options of a mount from outside a container: as in podman, it adds no rights. */
export function bindOptions(isReadOnly: boolean): string[] {
  return ['rbind', 'rprivate', 'nosuid', 'nodev', isReadOnly ? 'ro' : 'rw']
}

/** The same for a path of this machine, which may have mounts beneath it: these are read-only, too (runc 1.1, crun 1.4, Linux 5.12). */
export function hostBindOptions(isReadOnly: boolean): string[] {
  return [...bindOptions(isReadOnly), ...(isReadOnly ? ['rro'] : [])]
}

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
  const isReadOnly = readOnlyOf(fields, text)
  switch (fields.get('type') ?? 'bind') {
    case 'bind': {
      const source = fields.get('source')
      if (source === undefined || !source.startsWith('/')) throw invalid(text, 'it needs an absolute source')
      return { destination: target, type: 'bind', source, options: hostBindOptions(isReadOnly) }
    }
    case 'tmpfs': {
      const size = fields.get('tmpfs-size')
      const options = [
        'nosuid',
        'nodev',
        isReadOnly ? 'ro' : 'rw',
        ...(size === undefined ? [] : [`size=${size}`]),
      ]
      return { destination: target, type: 'tmpfs', source: 'tmpfs', options }
    }
    default:
      throw invalid(text, 'its type is not bind, tmpfs or image')
  }
}

/** Options of a tmpfs that have no value, and those that they replace. */
const TMPFS_FLAGS: Readonly<Record<string, string | undefined>> = {
  ro: 'rw',
  rw: 'ro',
  exec: 'noexec',
  noexec: 'exec',
  nosuid: undefined,
  nodev: undefined,
  tmpcopyup: 'notmpcopyup',
  notmpcopyup: 'tmpcopyup',
}
/** Words that only choose another option's absence. */
const TMPFS_ABSENCES: readonly string[] = ['exec', 'notmpcopyup']
const TMPFS_VALUES = /^(?:size=\d+[kmg]?%?|nr_inodes=\d+[kmg]?|mode=[0-7]{1,4}|uid=\d{1,10}|gid=\d{1,10})$/i

/**
 * Parses `PATH[:OPTIONS]`, as `--tmpfs` of podman: without options it is writable, no program in it can be run, and it begins with what the image
 * has there. @throws USAGE
 */
export function parseTmpfs(text: string): RuntimeMount {
  const colon = text.indexOf(':')
  const destination = colon < 0 ? text : text.slice(0, colon)
  const fail = (why: string) =>
    new LoamError('USAGE', `parse --tmpfs ${JSON.stringify(text)}: ${why}`, {
      hint: 'Write --tmpfs /run or --tmpfs /run:size=64m,mode=1777; the options are ro, exec, notmpcopyup, size, nr_inodes, mode, uid and gid.',
    })
  if (!destination.startsWith('/') || destination.includes('\0')) throw fail('it needs an absolute path')
  let options = ['nosuid', 'nodev', 'noexec', 'rw', 'tmpcopyup']
  for (const option of colon < 0 ? [] : text.slice(colon + 1).split(',')) {
    if (!TMPFS_VALUES.test(option) && !Object.hasOwn(TMPFS_FLAGS, option))
      throw fail(`the option ${JSON.stringify(option)} is not known`)
    options = [...options.filter((each) => each !== TMPFS_FLAGS[option] && each !== option), option]
  }
  return {
    destination,
    type: 'tmpfs',
    source: 'tmpfs',
    options: options.filter((each) => !TMPFS_ABSENCES.includes(each)),
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
  return { image, target, isReadOnly: readOnlyOf(fields, text) }
}

function parseFields(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const field of text.split(',')) {
    const equals = field.indexOf('=')
    const key = equals < 0 ? field : field.slice(0, equals)
    fields.set(ALIASES.get(key) ?? key, equals < 0 ? 'true' : field.slice(equals + 1))
  }
  const unknown = [...fields.keys()].find((key) => !KEYS.includes(key))
  if (unknown !== undefined) throw invalid(text, `${JSON.stringify(unknown)} is not known`)
  return fields
}

function invalid(text: string, why: string): LoamError {
  return new LoamError('USAGE', `parse mount ${JSON.stringify(text)}: ${why}`, { hint: HINT })
}

const ALIASES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    src: 'source',
    dst: 'target',
    destination: 'target',
    ro: 'readonly',
  }),
)
const KEYS: readonly string[] = ['type', 'source', 'target', 'readonly', 'rw', 'tmpfs-size']

/** `readonly`, `ro` or podman's `rw=false`; read-only if they disagree. */
function readOnlyOf(fields: ReadonlyMap<string, string>, text: string): boolean {
  return isTrue(fields.get('readonly') ?? 'false', text) || !isTrue(fields.get('rw') ?? 'true', text)
}

/** @throws USAGE for any other value: a mount that was meant to be read-only must not be writable */
function isTrue(value: string, text: string): boolean {
  if (/^(?:1|t|true)$/i.test(value)) return true
  if (/^(?:0|f|false)$/i.test(value)) return false
  throw invalid(text, `${JSON.stringify(value)} is not true or false`)
}

/** Debian's group tty. */
const TTY_GROUP = 5

/** The mounts of every container: kernel file systems and devices, as in the defaults of runc and Docker. */
export function kernelMounts({
  owner,
  network,
  idMapping,
}: Pick<Confinement, 'owner' | 'network'> & {
  readonly idMapping?: IdMapping | undefined
}): RuntimeMount[] {
  const isInNamespace = owner !== undefined || idMapping !== undefined
  const hasTtyGroup = idMapping === undefined || toHostId(idMapping.gids, TTY_GROUP) !== undefined
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
      ...(owner === undefined && hasTtyGroup ? [`gid=${TTY_GROUP}`] : []),
    ),
    mount('/dev/shm', 'tmpfs', 'noexec', 'nodev', 'mode=1777', 'size=65536k'),
    mount('/dev/mqueue', 'mqueue', 'noexec', 'nodev'),
    // It shows the devices of a network, and only root of that network may mount it.
    isInNamespace && network.kind !== 'none'
      ? {
          destination: '/sys',
          type: 'bind',
          source: '/sys',
          options: [...hostBindOptions(true), 'noexec'],
        }
      : mount('/sys', 'sysfs', 'noexec', 'nodev', 'ro'),
  ]
}
