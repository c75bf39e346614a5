// The snapshots API over the socket: containerd's own suite, cases that it does not test, many clients, and kills.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { connect } from 'node:net'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { status } from '@grpc/grpc-js'
import { Kind } from '../../gen/snapshots_pb.js'
import { Client } from '../support/client.ts'
import { rounds } from '../../../loam/test/support/rounds.ts'
import { LOAMD, DaemonWorld } from '../support/world.ts'
import { toStatus } from '../../src/service.ts'

const SUITE_FOLDER = fileURLToPath(new URL('../suite/', import.meta.url))
const KILLS = rounds(5, 2, 'LOAM_SNAPSHOT_KILLS')
const SNAPSHOTS = rounds(480, 160, 'LOAM_SNAPSHOTS')
const CLIENTS = rounds(32, 8)
/** Through containerd the same suite runs with containerd in between, which keeps some calls from the socket. */
const THROUGH = process.env['LOAM_SUITE_THROUGH']?.split(',') ?? ['socket']

/** Builds containerd's suite, in Go, from Debian's package of its source, in a folder. Returns its path. */
function buildSuite(folder: string): string {
  const suite = join(folder, 'snapshots.suite')
  const env = {
    ...process.env,
    GO111MODULE: 'off',
    GOPATH: '/usr/share/gocode',
    GOPROXY: 'off',
    CGO_ENABLED: '0',
    GOFLAGS: '',
    // A quarter less processor time than with Go's own value.
    GOGC: '400',
  }
  execFileSync('go', ['test', '-c', '-ldflags=-s -w', '-o', suite, '.'], {
    cwd: SUITE_FOLDER,
    env,
    stdio: 'pipe',
  })
  return suite
}

async function failsWith(act: Promise<unknown>, code: status): Promise<void> {
  await assert.rejects(
    act,
    (error) => error instanceof Error && 'code' in error && error.code === code,
    status[code],
  )
}

describe('the suite of containerd', () => {
  let folder = ''
  let suite = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'suite-'))
    suite = buildSuite(folder)
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  for (const through of THROUGH) {
    test(`the snapshots API passes the suite of containerd, by its ${through}`, { timeout: 600_000 }, () => {
      const env = { ...process.env, LOAM_NODE: process.execPath, LOAMD, LOAM_THROUGH: through }
      const {
        status: code,
        stdout,
        stderr,
      } = spawnSync(suite, ['-test.root', '-test.v', '-test.parallel', '2'], {
        encoding: 'utf8',
        env,
        timeout: 560_000,
        maxBuffer: 64 << 20,
      })
      assert.equal(
        code,
        0,
        `${stdout
          .split('\n')
          .filter((line) => /FAIL|rror/.test(line))
          .join('\n')}${stderr.slice(-2000)}`,
      )
      assert.ok((stdout.match(/--- PASS: TestLoam\//g) ?? []).length >= 19)
    })
  }
})

describe('the snapshots API', () => {
  test('the snapshots API answers with the statuses that containerd acts on', async () => {
    await using world = new DaemonWorld()
    const beginSeconds = Math.floor(Date.now() / 1000)
    await world.startDaemon()
    const client = new Client(world.socket)
    assert.deepEqual(await client.list(), [])
    await client.prepare('a', '', { 'containerd.io/gc.root': 'x' })
    await failsWith(client.prepare('a'), status.ALREADY_EXISTS)
    await failsWith(client.prepare('b', 'nothing'), status.NOT_FOUND)
    await failsWith(client.prepare('b', 'a'), status.INVALID_ARGUMENT)
    await failsWith(client.prepare(''), status.INVALID_ARGUMENT)
    await failsWith(client.view('a'), status.ALREADY_EXISTS)
    await failsWith(client.mounts('nothing'), status.NOT_FOUND)
    await failsWith(client.stat('nothing'), status.NOT_FOUND)
    await failsWith(client.usage('nothing'), status.NOT_FOUND)
    await failsWith(client.remove('nothing'), status.NOT_FOUND)
    await failsWith(client.update('nothing', {}), status.NOT_FOUND)
    await failsWith(client.update('a', {}, ['name']), status.INVALID_ARGUMENT)
    await failsWith(client.commit('c', 'nothing'), status.NOT_FOUND)
    await client.commit('base', 'a')
    await failsWith(client.mounts('base'), status.FAILED_PRECONDITION)
    await failsWith(client.commit('x', 'base'), status.FAILED_PRECONDITION)
    await client.view('v', 'base')
    await failsWith(client.commit('x', 'v'), status.FAILED_PRECONDITION)
    await failsWith(client.remove('base'), status.FAILED_PRECONDITION)
    await client.prepare('d', 'base')
    await failsWith(client.commit('base', 'd'), status.ALREADY_EXISTS)
    await failsWith(client.list(['name==']), status.INVALID_ARGUMENT)
    const flood = Object.fromEntries(Array.from({ length: 2000 }, (_value, index) => [`label ${index}`, 'x']))
    await failsWith(client.prepare('flood', '', flood), status.INVALID_ARGUMENT)
    await failsWith(client.prepare('large', '', { key: 'x'.repeat(4096) }), status.INVALID_ARGUMENT)
    await failsWith(client.prepare('huge'.repeat(5 << 20)), status.RESOURCE_EXHAUSTED)
    assert.equal((await client.stat('v')).info?.kind, Kind.VIEW)
    assert.deepEqual((await client.usage('v')).inodes, 0n)
    await client.cleanup()
    assert.equal((await client.health()).status, 1)
    assert.equal((await client.health('no.such.Service')).status, 3)
    const created = (await client.stat('d')).info?.createdAt
    assert.ok(created !== undefined && created.nanos % 1000 === 0)
    const seconds = Number(created.seconds)
    assert.ok(seconds >= beginSeconds && seconds <= Date.now() / 1000)
    client.close()
  })

  test('the snapshots API lists in pieces, also to a client that stops reading, and ignores a client with another protocol', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const client = new Client(world.socket)
    await Promise.all(
      Array.from({ length: 250 }, async (_value, index) =>
        client.prepare(`k${index}`, '', { n: String(index % 2) }),
      ),
    )
    const batches = await client.listBatches()
    assert.deepEqual(
      batches.map(({ length }) => length),
      [100, 100, 50],
    )
    assert.equal((await client.list(['labels.n==1,kind==active'])).length, 125)
    const gone = Array.from({ length: 20 }, async () => {
      const other = new Client(world.socket)
      const listing = other.list().catch(() => undefined)
      other.close()
      await listing
    })
    await Promise.all(gone)
    const noise = connect(world.socket)
    noise.on('error', () => undefined)
    noise.write('GET / HTTP/1.1\r\n\r\n')
    await sleep(100)
    noise.destroy()
    assert.equal((await client.list()).length, 250)
    client.close()
  })

  test('clients that disconnect in the middle of a call leave all or nothing of it', async () => {
    await using world = new DaemonWorld()
    await world.startDaemon('--log-level', 'error')
    const client = new Client(world.socket)
    await client.prepare('below')
    await client.commit('base', 'below')
    // One of eight stays, and shows how long the others may have to wait on this machine.
    let patienceMs = 12
    const vanish = async (index: number) => {
      const other = new Client(world.socket)
      const calls = [
        other.prepare(`k${index}`, 'base'),
        other.commit(`c${index}`, `k${index}`),
        other.view(`v${index}`, 'base'),
        other.remove(`k${index - 1}`),
      ]
      for (const call of calls) call.catch(() => undefined)
      if (index % 8 > 0) await sleep(Math.random() * patienceMs)
      else patienceMs = await timeOf(Promise.allSettled(calls))
      other.close()
      await Promise.allSettled(calls)
    }
    for (let round = 0; round < rounds(15, 5); round += 1) {
      await Promise.all(Array.from({ length: 8 }, async (_value, index) => vanish(round * 8 + index)))
    }
    await client.cleanup()
    const listed = await client.list()
    assert.ok(listed.length > 1)
    assert.equal(readdirSync(`${world.root}/snapshots`).length, listed.length)
    for (const { name, kind } of listed) if (kind !== Kind.COMMITTED) await client.mounts(name)
    for (const { name } of listed.toReversed()) await client.remove(name)
    await client.cleanup()
    assert.deepEqual(readdirSync(`${world.root}/snapshots`), [])
    client.close()
  })

  test('an error of the system has the status of its kind and names the call, in every call', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, mkdir'), {
      code: 'ENOSPC',
      errno: -28,
    })
    const { code, details } = toStatus(full, 'Prepare')
    assert.equal(code, status.RESOURCE_EXHAUSTED)
    assert.match(details, /^Prepare: no space left .*\. Make room on that file system/)
    const defect = toStatus(new Error('x'), 'Prepare')
    assert.equal(defect.code, status.INTERNAL)
    assert.match(defect.details, /^Prepare: x\./)
  })

  test('the snapshots API reports a full disk, and leaves nothing', async () => {
    await using world = new DaemonWorld()
    const disk = world.path('disk.img')
    mkdirSync(world.root)
    execFileSync('sh', [
      '-c',
      `truncate -s 24M ${disk} && mkfs.ext4 -q ${disk} && mount -o loop ${disk} ${world.root}`,
    ])
    await world.startDaemon()
    const client = new Client(world.socket)
    const { mounts } = await client.prepare('first')
    const [mount] = mounts
    spawnSync('sh', [
      '-c',
      `head -c 8M /dev/zero > ${mount?.source}/fill; cat /dev/zero > ${world.root}/rest`,
    ])
    const failures: unknown[] = []
    for (let index = 0; index < 400 && failures.length === 0; index += 1) {
      await client.prepare(`k${index}`).catch((error: unknown) => failures.push(error))
    }
    const [failure] = failures
    assert.ok(failure instanceof Error && 'code' in failure, 'the disk is not full')
    assert.equal(failure.code, status.RESOURCE_EXHAUSTED, failure.message)
    spawnSync('rm', ['-f', `${world.root}/rest`])
    await client.remove('first')
    await client.cleanup()
    await client.prepare('later')
    const listed = await client.list()
    assert.equal(readdirSync(`${world.root}/snapshots`).length, listed.length)
    client.close()
  })
})

/** A client's own snapshots: creates and removes them, and knows which have to exist. */
async function work(socket: string, name: string, times: number, done: Set<string>): Promise<void> {
  const client = new Client(socket)
  let parent = ''
  for (let round = 0; round < times; round += 1) {
    const key = `${name}/${round}`
    await client.prepare(`${key} active`, parent)
    if (round % 4 === 3) {
      await client.remove(`${key} active`)
      continue
    }
    await client.commit(key, `${key} active`, { owner: name })
    done.add(key)
    await client.view(`${key} view`, key)
    await client.remove(`${key} view`)
    // Chains of eight.
    parent = round % 8 === 7 ? '' : key
  }
  client.close()
}

describe('many clients', () => {
  test(`${CLIENTS} clients at once make and remove ${SNAPSHOTS} snapshots, and the list is what they did`, {
    timeout: 300_000,
  }, async () => {
    await using world = new DaemonWorld()
    await world.startDaemon()
    const done = new Set<string>()
    // Each round makes two snapshots.
    const each = Math.ceil(SNAPSHOTS / CLIENTS / 2)
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_value, index) => work(world.socket, `w${index}`, each, done)),
    )
    const client = new Client(world.socket)
    const listed = await client.list()
    assert.deepEqual(new Set(listed.map(({ name }) => name)), done)
    await client.cleanup()
    assert.equal(readdirSync(`${world.root}/snapshots`).length, done.size)
    for (const { name } of listed.toReversed()) await client.remove(name)
    await client.cleanup()
    assert.deepEqual(
      ['snapshots', 'trash'].flatMap((folder) => readdirSync(`${world.root}/${folder}`)),
      [],
    )
    client.close()
  })

  test(`after kill -9 of loamd at ${KILLS} random moments disk and database agree`, {
    timeout: 300_000,
  }, async () => {
    await using world = new DaemonWorld()
    const known = new Set<string>()
    for (let kill = 0; kill < KILLS; kill += 1) {
      await world.startDaemon('--log-level', 'error')
      const done = new Set<string>()
      const working = Array.from({ length: 8 }, async (_value, index) =>
        work(world.socket, `k${kill}w${index}`, 1000, done).catch(() => undefined),
      )
      // On a busy machine a random moment may come before anything was acknowledged.
      for (let waited = 0; done.size < 2 && waited < 5000; waited += 10) await sleep(10)
      await sleep(80 + Math.random() * 300)
      await world.stop('loamd', 'SIGKILL')
      await Promise.all(working)
      for (const key of done) known.add(key)
    }
    await world.startDaemon()
    const client = new Client(world.socket)
    await client.cleanup()
    const listed = await client.list()
    const names = new Set(listed.map(({ name }) => name))
    // Acknowledged snapshots exist; others exist completely or not at all.
    for (const key of known) assert.ok(names.has(key), key)
    assert.equal(readdirSync(`${world.root}/snapshots`).length, listed.length)
    for (const { name, kind } of listed) if (kind !== Kind.COMMITTED) await client.mounts(name)
    for (const { name } of listed.toReversed()) await client.remove(name)
    await client.cleanup()
    const rest = ['snapshots', 'trash', 'ingest'].flatMap((folder) => readdirSync(`${world.root}/${folder}`))
    // The area of the daemon itself.
    assert.ok(rest.length <= 1, rest.join())
    assert.ok(known.size > KILLS)
    client.close()
  })
})

async function timeOf(answers: Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await answers
  return performance.now() - begin
}
