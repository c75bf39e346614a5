// Runs a process of tests, and keeps its output.
import { spawn } from 'node:child_process'

/** Time limit of a test, and of a file of tests: many times the usual time, for busy machines. */
export const TEST_LIMIT_MS = 1_500_000
/** A process without output for this time hangs, and is ended with all its children, so that its output is shown. */
const SILENCE_LIMIT_MS = TEST_LIMIT_MS + 60_000

/** A process of tests that has ended. */
export interface TestResult {
  /** Null: a signal has ended it. */
  readonly status: number | null
  readonly output: string
}

/** Runs a command with this environment. */
export async function runProcess(command: readonly string[], env: NodeJS.ProcessEnv): Promise<TestResult> {
  const [file = '', ...args] = command
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env })
  let output = ''
  const limit = setTimeout(() => {
    output += `ended after ${SILENCE_LIMIT_MS / 1000} s of silence: it hangs\n`
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  }, SILENCE_LIMIT_MS)
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      limit.refresh()
      output += text
    })
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  const status = await promise
  clearTimeout(limit)
  return { status, output }
}

/** Returns whether a process has run a test, and not only skipped some. */
export function hasRunTests({ output }: TestResult): boolean {
  return /^ℹ pass [1-9]/m.test(output)
}
