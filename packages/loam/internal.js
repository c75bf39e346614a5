// A checkout has the sources, and nothing that was built; a package has dist alone.
import { existsSync } from 'node:fs'

const source = new URL('./src/internal.ts', import.meta.url)
const {
  DOWNLOADS,
  OPERATIONS,
  SCHEMAS,
  SUBSCRIPTIONS,
  cancelable,
  createDirectories,
  createPipe,
  describeSettings,
  endWithoutHandlers,
  isErrno,
  isRoot,
  listenOnUnixSocket,
  peerGroups,
  peerUser,
  protectMemory,
  redact,
  sendDatagram,
  toLoamError,
  unlinkIfThere,
} = await import(existsSync(source) ? source.href : './dist/internal.js')

export {
  DOWNLOADS,
  OPERATIONS,
  SCHEMAS,
  SUBSCRIPTIONS,
  cancelable,
  createDirectories,
  createPipe,
  describeSettings,
  endWithoutHandlers,
  isErrno,
  isRoot,
  listenOnUnixSocket,
  peerGroups,
  peerUser,
  protectMemory,
  redact,
  sendDatagram,
  toLoamError,
  unlinkIfThere,
}
