import { readlinkSync, statSync } from 'node:fs'
import { readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { CommandRequest } from './messages.ts'

/** Namespaces in which a path, an address or a user is another one. */
const NAMESPACES = ['mnt', 'net', 'user']
/** Variables by which Node and the system's libraries are told what holds for a whole process. */
const PROCESS_VARIABLES = [
  'NODE_OPTIONS',
  'NODE_EXTRA_CA_CERTS',
  'NODE_TLS_REJECT_UNAUTHORIZED',
  'NODE_USE_ENV_PROXY',
  'NODE_USE_SYSTEM_CA',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'OPENSSL_CONF',
  'RES_OPTIONS',
  'LOCALDOMAIN',
  'HOSTALIASES',
]
/** Names of what only the process has that says them: its standard streams, its descriptors, its terminal. */
const OWN_FILES = /^(?:-|\/dev\/(?:stdin|stdout|stderr|tty|fd\/.*)|\/proc\/(?:self|thread-self)(?:\/.*)?)$/
const MAX_LINKS = 40
/** Signs in a word behind which a path may begin. */
const MAX_PARTS = 8

/** Identifies the root directory and the namespaces of this process: a client with others sees other files and other addresses. loam.cjs does the same. */
export function identify(): string {
  const { dev, ino } = statSync('/')
  return [`${dev}:${ino}`, ...NAMESPACES.map((name) => readlinkSync(`/proc/self/ns/${name}`))].join(' ')
}

/** Returns a variable that holds for a whole process and differs between the client and this one. */
export function findProcessVariable({ env }: Pick<CommandRequest, 'env'>): string | undefined {
  return PROCESS_VARIABLES.find((name) => (env[name] ?? '') !== (process.env[name] ?? ''))
}

/** Returns a variable that names a stream or a descriptor of the client's own process. */
export function findOwnVariable({ env }: Pick<CommandRequest, 'env'>): string | undefined {
  return Object.entries(env).find(([, value]) => value !== '-' && OWN_FILES.test(value))?.[0]
}

/** Returns the first of words that names a stream or a descriptor of the client's own process. A path may be on a server that does not answer. */
export async function findOwnFile(words: readonly string[], cwd: string): Promise<string | undefined> {
  for (const word of words) {
    for (const part of partsOf(word)) if (await isOwnFile(part, cwd)) return word
  }
  return undefined
}

/** A path may be behind a transport or the name of an option, in a list, and in front of a tag. */
function partsOf(word: string): string[] {
  const starts = [...word.matchAll(/[:=,]/g)].map(({ index }) => index + 1).slice(0, MAX_PARTS)
  const ends = starts.map((start) => start - 1)
  return [0, ...starts].flatMap((start) =>
    [...ends.filter((end) => end > start), word.length].map((end) => word.slice(start, end)),
  )
}

/** Follows links: one may lead to /dev/stdin. */
async function isOwnFile(text: string, cwd: string): Promise<boolean> {
  if (OWN_FILES.test(text)) return true
  if (text === '' || text.includes('\0')) return false
  let path = resolve(cwd, text)
  for (let followed = 0; followed < MAX_LINKS; followed += 1) {
    try {
      path = join(await realpath(dirname(path)), basename(path))
      if (OWN_FILES.test(path) || path.startsWith(`/proc/${process.pid}/`)) return true
      path = resolve(dirname(path), await readlink(path))
    } catch {
      // It does not exist, or is no link.
      return false
    }
  }
  return false
}
