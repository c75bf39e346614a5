import { LoamError } from '../errors/index.ts'

/** Says that there is no snapshot of a key. */
export function notFound(key: string): LoamError {
  return new LoamError('SNAPSHOT_NOT_FOUND', `find snapshot ${quote(key)}: no such snapshot`)
}

/** Says that a key is taken. */
export function exists(key: string): LoamError {
  return new LoamError('SNAPSHOT_EXISTS', `create snapshot ${quote(key)}: a snapshot with this name exists`)
}

/** Writes a key, which may be any text, for a message. */
export function quote(key: string): string {
  return JSON.stringify(key.slice(0, 300))
}
