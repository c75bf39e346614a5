import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { isRoot } from './system.ts'

/** Returns the capabilities that this process and its children may ever have, as a mask (CapBnd of proc(5)). */
export function boundingCapabilities(): bigint {
  const line = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return BigInt(`0x${line?.[1] ?? '0'}`)
}

/** As in user_namespaces(7). */
const ALL_USERS = /^\s*0\s+0\s+4294967295\s*$/

/** Returns whether this process may create a cgroup with a limit of processes: it is root of the machine, and the controller exists. */
export function canLimitPids(): boolean {
  if (!isRoot() || !ALL_USERS.test(readFileSync('/proc/self/uid_map', 'utf8'))) return false
  const [groups, controllers] = ['/sys/fs/cgroup', '/sys/fs/cgroup/cgroup.controllers']
  if (!existsSync(controllers)) return isWritable(`${groups}/pids`)
  return readFileSync(controllers, 'utf8').trim().split(' ').includes('pids') && isWritable(groups)
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}
