import { readlinkSync, statSync } from 'node:fs'
import { isOwnFile } from '../own-files.ts'
import type { CommandRequest } from './messages.ts'

/** Namespaces that change the meaning of a path, an address or a user. */
const NAMESPACES = ['mnt', 'net', 'user']
/** Variables that affect a whole process: those of Node and the system's libraries. */
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

/** Identifies the root directory and the namespaces of this process: a client with others has other files and other addresses. loam.cjs does the same. */
export function identify(): string {
  const { dev, ino } = statSync('/')
  return [`${dev}:${ino}`, ...NAMESPACES.map((name) => readlinkSync(`/proc/self/ns/${name}`))].join(' ')
}

/** Returns a variable that affects a whole process and differs between the client and this process. */
export function findProcessVariable({ env }: Pick<CommandRequest, 'env'>): string | undefined {
  return PROCESS_VARIABLES.find((name) => (env[name] ?? '') !== (process.env[name] ?? ''))
}

/** Returns a variable that names a stream or a descriptor of the client's own process. */
export function findOwnVariable({ env }: Pick<CommandRequest, 'env'>): string | undefined {
  return Object.entries(env).find(([, value]) => value !== '-' && isOwnFile(value))?.[0]
}
