// A daemon on the store of a test, also for the tests of the command that run through it: see `World`.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { programPath } from './test-tools.ts'

/** Whether the tests run their commands through a daemon (scripts/run-tests.ts, tier `daemon`). */
export const THROUGH_DAEMON = process.env['THROUGH_DAEMON'] !== undefined
const LIMIT_MS = 120_000
const PAUSE_MS = 20

/** A daemon on a store. Starting and ending it blocks, as the tests that use it do. */
export class TestDaemon implements Disposable {
  readonly #child: ChildProcess
  readonly #log: string

  constructor(folder: string, root: string, state: string) {
    mkdirSync(state, { recursive: true })
    this.#log = join(folder, 'loamd.log')
    const log = openSync(this.#log, 'a')
    const places = ['--root', root, '--state', state, '--grpc-socket', join(folder, 'grpc.sock')]
    const args = [programPath('loamd'), ...places, '--log-level', 'debug']
    this.#child = spawn(process.execPath, args, { stdio: ['ignore', log, log] })
    closeSync(log)
    waitUntil(() => existsSync(join(state, 'loamd.sock')) || !this.#isRunning(), 'loamd listens')
  }

  #isRunning(): boolean {
    try {
      // Node takes the status of a process that has ended when it has time to.
      return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8'))
    } catch {
      return false
    }
  }

  /** Ends the daemon. @throws if it has run no command: then the test has proved nothing about it */
  [Symbol.dispose](): void {
    this.#child.kill('SIGTERM')
    waitUntil(() => !this.#isRunning(), 'loamd has ended')
    const log = readFileSync(this.#log, 'utf8')
    if (!log.includes('ran a command')) throw new Error(`the daemon has run no command: ${log}`)
  }
}

function waitUntil(isTrue: () => boolean, what: string): void {
  for (const end = Date.now() + LIMIT_MS; !isTrue(); ) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS)
  }
}
