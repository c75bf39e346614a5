// A host of commands that collects their output, for tests that run several in one process.
import type { Host } from '../../src/cli/host.ts'
import { openLoam } from '../../src/index.ts'

/** A host and its output. */
export interface CapturedHost extends Host {
  readonly said: { stdout: string; stderr: string }
}

/** Returns the host of a caller without a terminal, in a directory of its own. */
export function captureHost(cwd: string, env: NodeJS.ProcessEnv = {}): CapturedHost {
  const said = { stdout: '', stderr: '' }
  const outputOf = (name: 'stdout' | 'stderr') => ({
    isTerminal: false,
    columns: undefined,
    isBehind: false,
    write: (text: string | Uint8Array) => {
      said[name] += Buffer.from(text).toString()
    },
  })
  return {
    said,
    env,
    cwd,
    userId: process.geteuid?.() ?? 0,
    stdin: { isTerminal: false },
    stdout: outputOf('stdout'),
    stderr: outputOf('stderr'),
    exitStatus: 0,
    ask: async () => '',
    askSecret: async () => '',
    readInput: async () => '',
    watchSignals: () => ({ signal: new AbortController().signal, release: () => undefined }),
    openLoam,
    checkWords: async () => undefined,
    checkCommand: () => undefined,
    requireOwnProcess: () => undefined,
    protectMemory: () => undefined,
    starter: undefined,
  }
}
