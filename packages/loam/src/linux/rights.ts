import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { isMachineRoot } from './rootless.ts'

/** Returns the capabilities that this process and its children may ever have, as a mask (CapBnd of proc(5)). */
export function boundingCapabilities(): bigint {
  const line = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return BigInt(`0x${line?.[1] ?? '0'}`)
}

/** A controller of cgroups(7) that limits what the processes of a group take; `swap`: the one of memory also limits swap. */
export type LimitController = 'pids' | 'memory' | 'cpu' | 'swap'

const LIMIT_CONTROLLERS: readonly LimitController[] = ['pids', 'memory', 'cpu']
const GROUPS = '/sys/fs/cgroup'

/** Returns the controllers with which this process may limit a new cgroup: it is root of the machine, and the controller exists. */
export function limitControllers(): readonly LimitController[] {
  if (!isMachineRoot()) return []
  const found = findControllers()
  return found.includes('memory') && limitsSwap() ? [...found, 'swap'] : found
}

function findControllers(): readonly LimitController[] {
  const controllers = `${GROUPS}/cgroup.controllers`
  if (!existsSync(controllers)) return LIMIT_CONTROLLERS.filter((name) => isWritable(`${GROUPS}/${name}`))
  const known = readFileSync(controllers, 'utf8').trim().split(' ')
  return isWritable(GROUPS) ? LIMIT_CONTROLLERS.filter((name) => known.includes(name)) : []
}

/** The file is in each group but the topmost one, unless the kernel does not count swap (swapaccount=0). */
function limitsSwap(): boolean {
  if (existsSync(`${GROUPS}/memory/memory.memsw.limit_in_bytes`)) return true
  const groups = readdirSync(GROUPS, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return ['.', ...groups.map(({ name }) => name)].some((name) =>
    existsSync(`${GROUPS}/${name}/memory.swap.max`),
  )
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}
