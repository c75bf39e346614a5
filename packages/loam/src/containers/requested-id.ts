import { randomBytes } from 'node:crypto'
import { type ContainerId, parseContainerId } from '../metadata/index.ts'
import type { ProvisionImageOptions } from './requests.ts'

/** Returns the ID that was asked for, or a random one. @throws ID_INVALID */
export function idOf({ id }: Pick<ProvisionImageOptions, 'id'>): ContainerId {
  return parseContainerId(id ?? randomBytes(6).toString('hex'))
}
