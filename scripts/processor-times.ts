// The processor time of each file of tests: the cost of a tier however busy the machine is, and so where to look if it takes too long.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PRELOAD = new URL('write-processor-time.ts', import.meta.url).href
const SHOWN = 80

/** Options of `node --test` that load write-processor-time.ts: it gives them to the process of each file. */
export const TEST_PROCESS_OPTIONS: readonly string[] = ['--import', PRELOAD]

/** One file of tests. */
export interface ProcessorTime {
  readonly file: string
  /** Time of the file's process, and of all its children that it has waited for. */
  readonly seconds: number
}

/** The times of one run of a tier. */
export class ProcessorTimes implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'processor-times-'))

  /** Environment that names the directory in which the processes of the files write their times. */
  get env(): NodeJS.ProcessEnv {
    return { PROCESSOR_TIMES: this.#folder }
  }

  /** Reads the times, the longest first. */
  read(): ProcessorTime[] {
    const seconds = new Map<string, number>()
    for (const name of readdirSync(this.#folder)) {
      const { file, seconds: more } = JSON.parse(
        readFileSync(join(this.#folder, name), 'utf8'),
      ) as ProcessorTime
      seconds.set(file, (seconds.get(file) ?? 0) + more)
    }
    return [...seconds]
      .map(([file, all]) => ({ file, seconds: all }))
      .toSorted((one, other) => other.seconds - one.seconds)
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Returns lines about the slowest files. */
export function describeProcessorTimes(times: readonly ProcessorTime[]): string[] {
  const line = (seconds: number, what: string) => `${seconds.toFixed(1).padStart(8)} s  ${what}`
  const sum = times.reduce((all, { seconds }) => all + seconds, 0)
  const shown = times.slice(0, SHOWN).map(({ file, seconds }) => line(seconds, file))
  return ['processor time:', line(sum, 'all files'), ...shown]
}
