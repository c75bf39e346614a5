import { createInterface, type Interface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { openLoam } from '../app/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  ownDirectory,
  ownUser,
  protectMemory,
  writeStandardError,
  writeStandardOutput,
} from '../linux/index.ts'
import type { Host, HostOutput, Interruption } from './host.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Returns this process as the host of its only command. */
export function processHost(): Host {
  return {
    env: process.env,
    get cwd() {
      return ownDirectory()
    },
    userId: ownUser(process.env),
    stdin: {
      get isTerminal() {
        return process.stdin.isTTY
      },
    },
    stdout: outputOf(() => process.stdout, writeStandardOutput),
    stderr: outputOf(() => process.stderr, writeStandardError),
    exitStatus: 0,
    ask,
    askSecret,
    readInput,
    watchSignals,
    openLoam,
    checkWords: async () => undefined,
    checkCommand: () => undefined,
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
      return stream().isTTY ? measured(stream()).columns : undefined
    },
    get rows() {
      return stream().isTTY ? measured(stream()).rows : undefined
    },
  }
}

/** Node learns of another size some time after the terminal has it, and what is drawn for the old one meanwhile cannot be erased. */
function measured(stream: NodeJS.WriteStream): NodeJS.WriteStream {
  if ('_refreshSize' in stream && typeof stream._refreshSize === 'function') stream._refreshSize()
  return stream
}

async function ask(question: string, signal: AbortSignal): Promise<string> {
  return askBy(createInterface({ input: process.stdin, output: process.stderr }), question, signal)
}

/** readline reads the terminal in raw mode, and what it would show goes nowhere. */
async function askSecret(question: string, signal: AbortSignal): Promise<string> {
  writeStandardError(question)
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 })
  try {
    return await askBy(terminal, '', signal)
  } finally {
    writeStandardError('\n')
  }
}

async function readInput(maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer)
    bytes += (chunk as Buffer).length
    if (bytes > maxBytes)
      throw new LoamError('USAGE', `read standard input: it has more than ${maxBytes} bytes`)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function askBy(terminal: Interface, question: string, signal: AbortSignal): Promise<string> {
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
