import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar } from '../../../loam/src/testing/index.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { layoutOf } from '../../../loam/test/support/world.ts'
import { get } from '../support/http.ts'
import { DaemonWorld } from '../support/world.ts'

/** `loam events`, which reads when a daemon knows of it. */
async function follow(world: DaemonWorld, ...args: readonly string[]): Promise<ChildProcess> {
  const places = ['--root', world.root, '--state', world.state]
  const child = spawn(programPath('loam'), ['events', ...places, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LOAM_DAEMON: 'require' },
  })
  const { stdout } = child
  assert.ok(stdout !== null)
  await using daemon = await connectLoam({ socket: world.apiSocket })
  // The first line of something that happens now and then says that it listens.
  // It reads ahead from here on.
  stdout.once('readable', () => undefined)
  for (; stdout.readableLength === 0 && child.exitCode === null; await sleep(50)) await daemon.store.usage()
  return child
}

const statusOf = async (child: ChildProcess) => (await once(child, 'close'))[0] as number | null

test('loam events shows what others do with the daemon, as lines of text or of JSON, until a signal ends it', async () => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  const image = layoutOf(world, buildImage({ tars: [buildTar([{ name: 'hello', data: 'x' }])] }))
  const plain = await follow(world)
  const json = await follow(world, '--json', '--kind', 'end', '--operation', 'images', 'store.usage')
  const ended = Promise.all([statusOf(plain), statusOf(json)])
  const lines: string[] = []
  assert.ok(json.stdout !== null && plain.stdout !== null && plain.stderr !== null)
  const all = text(plain.stdout)
  const errors = text(plain.stderr)
  await using daemon = await connectLoam({ socket: world.apiSocket })
  await daemon.pull(image)
  for await (const line of createInterface({ input: json.stdout })) {
    const event = JSON.parse(line) as { operation: string; kind: string }
    if (event.operation !== 'store.usage') lines.push(line)
    if (event.operation === 'images.pull') break
  }
  const [event] = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  assert.equal(lines.length, 1)
  assert.equal(event?.['kind'], 'end')
  assert.match(String(event?.['requestId']), /^[0-9a-f-]{36}$/)
  plain.kill('SIGTERM')
  json.kill('SIGINT')
  assert.deepEqual(await ended, [0, 0])
  assert.equal(await errors, '')
  const shown = await all
  assert.match(shown, /^\d\d:\d\d:\d\d images\.pull {12}began image=oci:/m)
  assert.match(shown, /^\d\d:\d\d:\d\d layer {18}done in [\d.]+ s digest=sha256:.* fetchedBytes=[\d.]+ k?B$/m)
  assert.match(shown, /^\d\d:\d\d:\d\d images\.pull {12}done in [\d.]+ s image=oci:.* layersFetched=1/m)
})

test('loam events fails when there is no daemon, and when the daemon ends, however it ends', async () => {
  await using world = new DaemonWorld()
  const none = world.loam('events')
  assert.equal(none.status, 1)
  assert.match(none.stderr, /^loam: connect to loamd at .*loamd\.sock: no such socket\nhint: Start loamd/)
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await world.startDaemon()
    const child = await follow(world, '--json')
    const ended = statusOf(child)
    assert.ok(child.stdout !== null && child.stderr !== null)
    child.stdout.resume()
    const errors = text(child.stderr)
    await world.stop('loamd', signal)
    assert.equal(await ended, 1)
    const { error } = JSON.parse(await errors) as { error: { code: string; message: string } }
    assert.equal(error.code, 'DAEMON_LOST')
    assert.match(error.message, /^read events of loamd at .*: the daemon has ended$/)
  }
})

test('an operation that there is not is refused by the command and by the daemon, and never waited for', async () => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  const args = ['events', '--root', world.root, '--state', world.state, '--operation', 'images', 'images.pul']
  const { status, stderr } = spawnSync(programPath('loam'), args, { encoding: 'utf8', timeout: 60_000 })
  assert.equal(status, 2, stderr)
  assert.match(stderr, /no operation images\.pul\nhint: Did you mean images\.pull/)
  const answer = await get(world.apiSocket, '/v1/events?operations=nosuch')
  assert.equal(answer.status, 400, answer.body)
})
