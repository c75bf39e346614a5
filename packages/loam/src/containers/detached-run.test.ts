import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { MONITOR } from './detached-run.ts'

const LOST = /^\nloam: output was lost here: .*\n/

describe('the monitor of a detached process', { timeout: 60_000 }, () => {
  test('waits while the log cannot be written, and says in the log that output was lost', async () => {
    using world = new MonitorWorld()
    world.fillDisk()
    world.run('echo lost; until [ -e go ]; do sleep 0.1; done; echo kept')
    await until(() => world.has('failed'))
    // It has tried again by then.
    await sleep(200)
    assert.equal(world.log, '')
    world.freeDisk()
    await until(() => world.log !== '')
    world.write('go', '')
    await until(() => world.has('exit'))
    assert.match(world.log, LOST)
    assert.equal(world.log.replace(LOST, ''), 'kept\n')
    assert.deepEqual(readdirSync(world.logs), ['output.log'])
  })

  test('does not wait for room in the log for ever when the process has ended', async () => {
    using world = new MonitorWorld()
    world.fillDisk()
    world.run('echo lost; exit 3')
    await until(() => world.has('exit'))
    assert.equal(world.read('exit'), '3\n')
  })
})

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(20)
}

/** A monitor whose first write to the log fails, after it has read the first line, as on a full disk. */
class MonitorWorld implements Disposable {
  readonly logs: string
  readonly #directory = mkdtempDisposableSync(join(tmpdir(), 'loam-monitor-'))
  readonly #bundle = join(this.#directory.path, 'bundle')
  readonly #programs = join(this.#directory.path, 'programs')
  #monitor: ChildProcess | undefined

  constructor() {
    this.logs = join(this.#directory.path, 'logs')
    for (const path of [this.#bundle, this.#programs, this.logs]) mkdirSync(path)
    writeFileSync(join(this.logs, 'output.log'), '')
    writeFileSync(join(this.#programs, 'sleep'), '#!/bin/sh\nexec /bin/sleep 0.01\n', { mode: 0o755 })
    const failing = `[ -e failed ] || { head -c 5 >/dev/null; : >failed; exit 1; }; shift; exec "$@"\n`
    writeFileSync(join(this.#programs, 'stdbuf'), `#!/bin/sh\n${failing}`, { mode: 0o755 })
  }

  get log(): string {
    return readFileSync(join(this.logs, 'output.log'), 'utf8')
  }

  /** Nothing can be written to a file whose name a directory has. */
  fillDisk(): void {
    mkdirSync(join(this.logs, 'output.log.probe'))
  }

  freeDisk(): void {
    rmdirSync(join(this.logs, 'output.log.probe'))
  }

  run(line: string): void {
    const words = [this.#bundle, join(this.logs, 'output.log'), '65536', '', '', 'sh', '-c', line]
    const { PATH = '' } = process.env
    const env = { PATH: `${this.#programs}:${PATH}` }
    this.#monitor = spawn('/bin/sh', ['-c', MONITOR, 'loam-monitor', ...words], { env, stdio: 'ignore' })
  }

  has(name: string): boolean {
    return existsSync(join(this.#bundle, name))
  }

  read(name: string): string {
    return readFileSync(join(this.#bundle, name), 'utf8')
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.#bundle, name), text)
  }

  [Symbol.dispose](): void {
    this.#monitor?.kill('SIGKILL')
    this.#directory.remove()
  }
}
