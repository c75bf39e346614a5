import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { isMachineRoot } from './rootless.ts'

/** Returns the capabilities that this process and its children may ever have, as a mask (CapBnd of proc(5)). */
export function boundingCapabilities(): bigint {
  const line = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return BigInt(`0x${line?.[1] ?? '0'}`)
}

/** A controller of cgroups(7) that limits what the processes of a group take. */
export type LimitController = 'pids' | 'memory' | 'cpu'

const LIMIT_CONTROLLERS: readonly LimitController[] = ['pids', 'memory', 'cpu']

/** Returns the controllers with which this process may limit a new cgroup: it is root of the machine, and the controller exists. */
export function limitControllers(): readonly LimitController[] {
  if (!isMachineRoot()) return []
  const [groups, controllers] = ['/sys/fs/cgroup', '/sys/fs/cgroup/cgroup.controllers']
  if (!existsSync(controllers)) return LIMIT_CONTROLLERS.filter((name) => isWritable(`${groups}/${name}`))
  const known = readFileSync(controllers, 'utf8').trim().split(' ')
  return isWritable(groups) ? LIMIT_CONTROLLERS.filter((name) => known.includes(name)) : []
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}
