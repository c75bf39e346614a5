import { createInterface } from 'node:readline/promises'
import { openLoam } from '../app/index.ts'
import { effectiveUser, protectMemory, writeStandardError, writeStandardOutput } from '../linux/index.ts'
import type { Host, HostOutput, Interruption } from './host.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Returns this process as the host of its only command. */
export function processHost(): Host {
  return {
    env: process.env,
    cwd: process.cwd(),
    userId: effectiveUser(),
    stdin: {
      get isTerminal() {
        return process.stdin.isTTY
      },
    },
    stdout: outputOf(() => process.stdout, writeStandardOutput),
    stderr: outputOf(() => process.stderr, writeStandardError),
    exitStatus: 0,
    ask,
    watchSignals,
    openLoam,
    checkWords: async () => undefined,
    requireOwnProcess: () => undefined,
    protectMemory,
    starter: undefined,
  }
}

/** The stream is opened on first use, since opening it takes a while. */
function outputOf(stream: () => NodeJS.WriteStream, write: HostOutput['write']): HostOutput {
  return {
    write,
    isBehind: false,
    get isTerminal() {
      return stream().isTTY
    },
    get columns() {
      return stream().isTTY ? stream().columns : undefined
    },
    get rows() {
      return stream().isTTY ? stream().rows : undefined
    },
  }
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  const { promise: ended, resolve } = Promise.withResolvers<string>()
  terminal.once('close', () => {
    resolve('')
  })
  try {
    return await Promise.race([terminal.question(question, { signal }), ended])
  } finally {
    terminal.close()
  }
}

function watchSignals(): Interruption {
  const interrupted = new AbortController()
  const onSignal = (signal: NodeJS.Signals) => {
    interrupted.abort(signal)
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  const release = () => {
    for (const name of SIGNALS) process.off(name, onSignal)
  }
  return { signal: interrupted.signal, release }
}
