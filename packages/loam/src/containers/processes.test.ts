import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { type Loam, openLoam } from '../index.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'

const CANCELED = { signal: AbortSignal.abort() }
/** A process ID that Linux does not give. */
const NO_PROCESS = '4194305'

describe('the process of a container', () => {
  let world: World
  before(async () => {
    world = await World.create()
  })
  after(async () => world[Symbol.asyncDispose]())
  beforeEach(async () => world.provision())

  test('a canceled stop sends no signal', async () => {
    world.setRunning(process.pid)
    await assert.rejects(world.loam.containers.processes.stop('web', CANCELED), isCanceled)
    assert.deepEqual(world.calls(), [])
  })

  test('a canceled removal leaves the process and its bundle', async () => {
    world.setRunning(process.pid)
    await assert.rejects(world.loam.containers.destroy('web', CANCELED), isCanceled)
    assert.deepEqual([world.calls(), existsSync(world.bundle)], [[], true])
  })

  test('of two starts at once one starts the process, and the other finds that it runs', async () => {
    world.setEnded()
    const start = async () => world.loam.containers.processes.start('web')
    const ended = await Promise.allSettled([start(), start()])
    const errors = ended.flatMap((each) => (each.status === 'rejected' ? [each.reason as Error] : []))
    assert.deepEqual(
      errors.map((error) => [isLoamError(error, 'CONTAINER_RUNNING'), error.message]),
      [[true, 'start web: its process is running']],
    )
    assert.equal(await world.status(), 'running')
  })

  test('a process whose runtime was killed is started again', async () => {
    world.setRunning(NO_PROCESS)
    assert.equal(await world.status(), 'exited')
    await world.loam.containers.processes.start('web')
    assert.equal(await world.status(), 'running')
  })

  test('a container that is removed while it is being started is gone, and its process with it', async () => {
    world.setEnded()
    const { containers } = world.loam
    await Promise.allSettled([containers.processes.start('web'), containers.destroy('web')])
    await containers.destroy('web')
    for (const name of ['bundles', 'runtime', 'starts'])
      assert.deepEqual(readdirSync(world.at('state', name)), [], name)
  })
})

function isCanceled(error: unknown): boolean {
  return isLoamError(error, 'CANCELED')
}

/** A store with a container in the background, and an OCI runtime that notes how it is called. */
class World implements AsyncDisposable {
  readonly #directory = mkdtempDisposableSync(join(tmpdir(), 'loam-processes-'))
  readonly bundle = this.at('state/bundles/web')
  #loam: Loam | undefined

  static async create(): Promise<World> {
    const world = new World()
    writeFileSync(world.at('program'), world.#program(), { mode: 0o755 })
    writeOciLayout(world.at('layout'), { app: buildImage({ tars: [buildTar([{ name: 'etc/' }])] }) })
    const flags = { root: world.at('store'), state: world.at('state'), runtime: world.at('program') }
    world.#loam = await openLoam({ flags, file: null, env: { PATH: process.env['PATH'] } })
    return world
  }

  /** The state of a process is the file of its ID. */
  #program(): string {
    const state = this.at('state/runtime/web')
    return `#!/bin/sh
for word; do
  case $before in --pid-file) pidfile=$word;; esac
  case $word in state | run | delete | kill) call=\${call:-$word};; esac
  before=$word
done
echo $call >>${this.at('calls')}
case $call in
  state) kill -0 $(cat ${state}/pid) && echo '{"status":"running","pid":'$(cat ${state}/pid)'}' || echo '{"status":"stopped","pid":0}';;
  delete) rm -r ${state};;
  run)
    mkdir ${state} || exit 1
    echo $$ >${state}/pid
    sleep 0.2
    echo $$ >$pidfile
    while [ -e ${state} ]; do sleep 0.05; done;;
esac
`
  }

  at(...names: readonly string[]): string {
    return join(this.#directory.path, ...names)
  }

  get loam(): Loam {
    assert.ok(this.#loam)
    return this.#loam
  }

  /** Creates the container anew. */
  async provision(): Promise<void> {
    await this.loam.containers.destroy('web')
    await this.loam.containers.provision(`oci:${this.at('layout')}:app`, { id: 'web', backend: 'copy' })
    for (const path of [this.bundle, this.at('state/runtime')]) mkdirSync(path, { recursive: true })
    writeFileSync(join(this.bundle, 'monitor'), 'keep')
    writeFileSync(join(this.bundle, 'process.pid'), '1')
    writeFileSync(join(this.bundle, 'config.json'), '{"process":{}}')
    writeFileSync(this.at('calls'), '')
  }

  setRunning(pid: number | string): void {
    mkdirSync(this.at('state/runtime/web'))
    writeFileSync(this.at('state/runtime/web/pid'), String(pid))
    writeFileSync(join(this.bundle, 'began'), NO_PROCESS)
  }

  setEnded(): void {
    writeFileSync(join(this.bundle, 'exit'), '0')
  }

  async status(): Promise<string> {
    return (await this.loam.containers.processes.find('web')).status
  }

  calls(): string[] {
    return readFileSync(this.at('calls'), 'utf8').split('\n').filter(Boolean)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.loam.containers.destroy('web')
    await this.loam[Symbol.asyncDispose]()
    this.#directory.remove()
  }
}
