/*
 * Changes to the config of an image, as `--change` of docker commit and podman commit: one instruction of a Dockerfile each. podman also writes an
 * equals sign behind the instruction (CMD=/bin/sh).
 */
import { LoamError } from '../errors/index.ts'

type Fields = Readonly<Record<string, unknown>>

const HINT =
  'The instructions are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR, for example: CMD ["nginx", "-g", "daemon off;"].'

/** Returns the `config` object of an image with changes. @throws USAGE for one that cannot be read */
export function changeRunConfig(config: Fields, changes: readonly string[]): Fields {
  const changed: Record<string, unknown> = { ...config }
  for (const change of changes) Object.assign(changed, readChange(change, changed))
  return changed
}

function readChange(change: string, config: Fields): Fields {
  const [, word = '', rest = ''] = /^\s*([A-Za-z]+)(?:\s+|\s*=\s*)(\S[\s\S]*?)\s*$/.exec(change) ?? []
  const fail = (why: string) =>
    new LoamError('USAGE', `change the config by ${JSON.stringify(change)}: ${why}`, { hint: HINT })
  if (rest === '' || rest.includes('\0')) throw fail('expected an instruction and its value')
  switch (word.toUpperCase()) {
    case 'CMD':
      return { Cmd: readCommand(rest, fail), ArgsEscaped: undefined }
    case 'ENTRYPOINT':
      return { Entrypoint: readCommand(rest, fail) }
    case 'ENV':
      return { Env: mergeEnv(config['Env'], readPairs(rest, fail)) }
    case 'LABEL':
      return { Labels: { ...fieldsOf(config['Labels']), ...Object.fromEntries(readPairs(rest, fail)) } }
    case 'EXPOSE':
      return { ExposedPorts: { ...fieldsOf(config['ExposedPorts']), ...setOf(readPorts(rest, fail)) } }
    case 'VOLUME':
      return { Volumes: { ...fieldsOf(config['Volumes']), ...setOf(readList(rest, fail) ?? split(rest)) } }
    case 'USER':
      return { User: unquote(rest) }
    case 'WORKDIR':
      return { WorkingDir: joinDirectory(config['WorkingDir'], unquote(rest)) }
    case 'STOPSIGNAL':
      return { StopSignal: unquote(rest) }
    default:
      throw fail('the instruction is not known')
  }
}

type Fail = (why: string) => LoamError

/** A JSON array is the words; a line is run by a shell. */
function readCommand(text: string, fail: Fail): readonly string[] {
  return readList(text, fail) ?? ['/bin/sh', '-c', text]
}

function readList(text: string, fail: Fail): readonly string[] | undefined {
  if (!text.startsWith('[')) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw fail('the list is not valid JSON')
  }
  if (Array.isArray(value) && value.every((word) => typeof word === 'string')) return value
  throw fail('expected a list of texts')
}

/** `A=1 B="two words"`, or the old form `A two words`. */
function readPairs(text: string, fail: Fail): (readonly [string, string])[] {
  const [, key = '', value = ''] = /^([^\s="']+)\s+([\s\S]+)$/.exec(text) ?? []
  if (key !== '') return [[key, value]]
  return split(text).map((word) => {
    const equals = word.indexOf('=')
    if (equals < 1) throw fail(`${JSON.stringify(word)} is not NAME=VALUE`)
    return [word.slice(0, equals), word.slice(equals + 1)]
  })
}

function readPorts(text: string, fail: Fail): string[] {
  return split(text).map((word) => {
    if (!/^\d{1,5}(?:-\d{1,5})?(?:\/(?:tcp|udp|sctp))?$/.test(word))
      throw fail(`${JSON.stringify(word)} is not a port`)
    return word.includes('/') ? word : `${word}/tcp`
  })
}

/** Splits words at spaces that are neither quoted nor behind a backslash. */
function split(text: string): string[] {
  const words = text.match(/(?:\\[\s\S]|"(?:\\[\s\S]|[^"\\])*"|'[^']*'|[^\s"'\\])+/g) ?? []
  return words.map(unquote)
}

function unquote(word: string): string {
  return word.replaceAll(
    /"((?:\\[\s\S]|[^"\\])*)"|'([^']*)'|\\([\s\S])/g,
    (_all, double?: string, single?: string, escaped?: string) =>
      double?.replaceAll(/\\(["\\$])/g, '$1') ?? single ?? escaped ?? '',
  )
}

function mergeEnv(before: unknown, pairs: readonly (readonly [string, string])[]): string[] {
  const entries = Array.isArray(before) ? before.filter((each) => typeof each === 'string') : []
  const merged = new Map(entries.map((entry) => [entry.split('=', 1)[0] ?? '', entry]))
  for (const [key, value] of pairs) merged.set(key, `${key}=${value}`)
  return [...merged.values()]
}

function joinDirectory(before: unknown, path: string): string {
  if (path.startsWith('/')) return path
  const base = typeof before === 'string' && before !== '' ? before : '/'
  return `${base.replace(/\/$/, '')}/${path}`
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function setOf(names: readonly string[]): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, {}]))
}
