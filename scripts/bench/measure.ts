// Runs a command in a cgroup of its own and measures it with all its children: wall time, CPU seconds of
// user and kernel together, and the highest sum of resident memory, looked at every 10 ms.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'

export interface Measurement {
  readonly wallSeconds: number
  readonly cpuSeconds: number
  readonly peakBytes: number
}

const SAMPLE_MS = 10

/** A group of processes whose CPU time and memory can be read. */
export class ProcessGroup implements Disposable {
  readonly #cpu: string

  constructor(name: string) {
    this.#cpu = `/sys/fs/cgroup/cpuacct/${name}`
    mkdirSync(this.#cpu, { recursive: true })
  }

  /** Shell line for joining the group. */
  get joinCommand(): string {
    return `echo $$ > ${this.#cpu}/cgroup.procs`
  }

  cpuSeconds(): number {
    return Number(readFileSync(`${this.#cpu}/cpuacct.usage`, 'utf8')) / 1e9
  }

  residentBytes(): number {
    const pids = readFileSync(`${this.#cpu}/cgroup.procs`, 'utf8').split('\n').filter(Boolean)
    return pids.reduce((sum, pid) => sum + residentOf(pid), 0)
  }

  addProcess(pid: number): void {
    writeFileSync(`${this.#cpu}/cgroup.procs`, String(pid))
  }

  [Symbol.dispose](): void {
    try {
      rmdirSync(this.#cpu)
    } catch {
      // A process that is still ending keeps it; an empty group costs nothing.
    }
  }
}

function residentOf(pid: string): number {
  try {
    // Shared pages of one program count once for each of its processes, for all tools alike.
    const [, resident] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')
    return Number(resident) * 4096
  } catch {
    return 0
  }
}

/** Returns the median; 0 of nothing. */
export function median(list: readonly number[]): number {
  return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0
}

/** Runs a shell command in a group. @throws with its output when it fails */
export async function measure(group: ProcessGroup, command: string): Promise<Measurement> {
  const cpuBefore = group.cpuSeconds()
  const start = process.hrtime.bigint()
  let peakBytes = 0
  const child = spawn('sh', ['-ec', `${group.joinCommand}\n${command}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk))
  const sampler = setInterval(() => {
    peakBytes = Math.max(peakBytes, group.residentBytes())
  }, SAMPLE_MS)
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  const status = await promise
  const wallSeconds = Number(process.hrtime.bigint() - start) / 1e9
  clearInterval(sampler)
  if (status !== 0)
    throw new Error(`${command}\nended with ${status}:\n${Buffer.concat(output).toString('utf8')}`)
  return { wallSeconds, cpuSeconds: group.cpuSeconds() - cpuBefore, peakBytes }
}
