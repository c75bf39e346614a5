// An odd file in place of a regular one is reported, and never waited for; and an archive may come through a pipe.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar } from '../../src/testing/index.ts'
import { credentialsFromFiles } from '../../src/registry/index.ts'
import { byTurns, someOf } from '../support/rounds.ts'
import { gather, must, World } from '../support/world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'f', data: 'hello' }])], compression: 'none' })

/** An OCI layout in a folder. */
function layoutIn(world: World): string {
  const folder = join(world.folder, 'layout')
  mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true })
  for (const { digest, bytes } of [image.manifest, image.config, ...image.layers])
    writeFileSync(join(folder, 'blobs', ...digest.split(':')), bytes)
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  const { digest, bytes } = image.manifest
  const entry = { mediaType: image.mediaType, digest, size: bytes.length }
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }))
  return folder
}

/** A `docker save` of the image. */
function archiveIn(world: World): string {
  const name = `${image.config.digest.slice(7)}.json`
  const manifest = [{ Config: name, RepoTags: ['x:1'], Layers: ['l/layer.tar'] }]
  const path = join(world.folder, 'a.tar')
  writeFileSync(
    path,
    buildTar([
      { name, data: image.config.bytes },
      { name: 'l/layer.tar', data: image.layers[0]?.bytes ?? '' },
      { name: 'manifest.json', data: JSON.stringify(manifest) },
    ]),
  )
  return path
}

async function withKinds(
  world: World,
  act: (path: string, kind: RegExp, place: number) => Promise<void>,
): Promise<void> {
  const path = join(world.folder, 'odd')
  must('mkfifo', path)
  await act(path, /named pipe/, 0)
  rmSync(path)
  must('mknod', path, 'c', '1', '5')
  await act(path, /a device/, 1)
  rmSync(path)
  const server = createServer().listen(path)
  await new Promise((resolve) => server.once('listening', resolve))
  await act(path, /a socket/, 2)
  await new Promise((resolve) => server.close(resolve))
  mkdirSync(path, { recursive: true })
  await act(path, /a directory/, 3)
  rmSync(path, { recursive: true })
}

/** Runs a command that has to end, and returns what it said. */
async function outcomeOf(world: World, ...args: readonly string[]) {
  const child = spawn(process.execPath, world.args('--json', ...args), {
    timeout: 300_000,
    killSignal: 'SIGKILL',
  })
  const [stdout, stderr] = [gather(child.stdout), gather(child.stderr)]
  const status = await new Promise((resolve) => child.once('close', resolve))
  return { status, stdout, stderr }
}

/** Runs a command that has to end with an error at once. */
async function refused(world: World, kind: RegExp, ...args: readonly string[]): Promise<void> {
  const { status, stderr } = await outcomeOf(world, ...args)
  assert.ok(status === 1 || status === 2, `${args.join(' ')}: ${String(status)} ${stderr()}`)
  assert.match(JSON.parse(stderr()).error.message, kind)
}

describe('an odd file in place of a regular one', () => {
  test('an odd file for a configuration, credentials, a policy or a certificate is reported', async () => {
    using world = new World()
    const name = `oci:${layoutIn(world)}`
    const hosts = join(world.folder, 'certs', '127.0.0.1:9')
    mkdirSync(hosts, { recursive: true })
    await withKinds(world, async (path, kind, place) => {
      const commands = [
        ['--config', path, 'images'],
        [`--signature_policy=${path}`, 'pull', name],
        [`--image_gc_config=${path}`, 'gc'],
      ]
      await Promise.all(byTurns(commands, place).map(async (command) => refused(world, kind, ...command)))
    })
    // The whole folder would be another location.
    must('mkfifo', join(hosts, 'hosts.toml'))
    await refused(world, /named pipe/, 'pull', '127.0.0.1:9/x', '--certs-dir', join(world.folder, 'certs'))
    const authFile = join(world.folder, 'auth.json')
    must('mkfifo', authFile)
    await assert.rejects(async () => credentialsFromFiles([authFile]).find('registry.example'), {
      code: 'CREDENTIALS_INVALID',
      message: /named pipe/,
    })
  })

  test('an odd file for a layout or an archive is reported', async () => {
    using world = new World()
    const folder = layoutIn(world)
    const { digest } = image.layers[0] ?? image.config
    for (const file of [
      'index.json',
      'oci-layout',
      join('blobs', ...image.config.digest.split(':')),
      join('blobs', ...digest.split(':')),
    ]) {
      const path = join(folder, file)
      copyFileSync(path, join(world.folder, 'kept'))
      rmSync(path)
      must('mkfifo', path)
      await refused(world, /named pipe/, 'pull', `oci:${folder}`)
      rmSync(path)
      copyFileSync(join(world.folder, 'kept'), path)
    }
    assert.equal(world.loam('pull', `oci:${folder}`).status, 0)
    const fifo = join(world.folder, 'fifo')
    must('mkfifo', fifo)
    for (const name of [`docker-archive:${fifo}`, `oci-archive:${fifo}`, `aci:${fifo}`])
      await refused(world, /named pipe/, 'pull', name)
    await refused(world, /named pipe/, 'put', `file://${fifo}`, 'x:1')
  })
})

describe('a pipe in the place of a file of the store', () => {
  const pipeAt = (path: string) => {
    rmSync(path)
    must('mkfifo', path)
  }

  test('a pipe in the place of a document, a tar or an image is damage, which fsck finds and repairs', async () => {
    using world = new World()
    const name = `oci:${layoutIn(world)}`
    const places = {
      manifest: join(world.root, 'blobs', ...image.manifest.digest.split(':')),
      config: join(world.root, 'blobs', ...image.config.digest.split(':')),
      tar: join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar'),
      index: join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.erofs'),
    }
    const problems = async (...args: readonly string[]) => {
      const { status, stdout, stderr } = await outcomeOf(world, 'fsck', ...args)
      assert.notEqual(stdout(), '', stderr())
      return { status, problems: JSON.parse(stdout()).problems as { problem: string; repaired?: string }[] }
    }
    assert.equal(world.loam('pull', name).status, 0)
    for (const [what, damaged] of [
      ['manifest, config and tar', [places.manifest, places.config, places.tar]],
      ['index', [places.index]],
    ] as const) {
      for (const path of damaged) pipeAt(path)
      const found = await problems()
      assert.deepEqual([found.status, found.problems.length], [1, damaged.length], what)
      const mended = await problems('--repair')
      assert.equal(mended.status, 0, JSON.stringify(mended))
      assert.deepEqual((await problems()).problems, [])
    }
    assert.equal(world.loam('pull', name).status, 0)
    assert.deepEqual(world.leftovers(), [])
  })

  test('commands end at a pipe in the place of a file that they read', async () => {
    using world = new World()
    const name = `oci:${layoutIn(world)}`
    assert.equal(world.loam('pull', name).status, 0)
    pipeAt(join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar'))
    // A layer whose tar is lost is fetched again.
    assert.equal(
      (await outcomeOf(world, 'export', '--format', 'tar', name, join(world.folder, 'x.tar'))).status,
      0,
    )
    pipeAt(join(world.root, 'blobs', ...image.config.digest.split(':')))
    assert.equal((await outcomeOf(world, 'pull', name)).status, 0)
    pipeAt(join(world.root, 'format'))
    await refused(world, /format.*named pipe/, 'images')
  })
})

describe('an archive that comes through a pipe', () => {
  const put = async (world: World, file: string, stdin: 'pipe' | number) => {
    const child = spawn(process.execPath, world.args('put', file, 'app:1'), {
      stdio: [stdin, 'pipe', 'pipe'],
    })
    const [stdout, stderr] = [
      gather(child.stdout as NodeJS.ReadableStream),
      gather(child.stderr as NodeJS.ReadableStream),
    ]
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    return { child, ended, stdout, stderr }
  }

  test('an archive is read from standard input, be it a pipe, a socket or a file, and leaves no name of a copy', async () => {
    using world = new World()
    const archive = archiveIn(world)
    const command = (file: string) => `cat ${archive} | "$@" put ${file} app:1`
    for (const file of someOf(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0'], 2))
      must('sh', '-c', command(file), 'sh', process.execPath, ...world.args())
    // A writer that ends before it is read is as good.
    must('bash', '-c', `"$@" put <(cat ${archive}) app:1`, 'bash', process.execPath, ...world.args())
    const viaSocket = await put(world, '-', 'pipe')
    createReadStream(archive).pipe(viaSocket.child.stdin as NodeJS.WritableStream)
    assert.equal(await viaSocket.ended, 0, viaSocket.stderr())
    const fd = openSync(archive, 'r')
    const viaFile = await put(world, '-', fd)
    assert.equal(await viaFile.ended, 0, viaFile.stderr())
    closeSync(fd)
    assert.doesNotMatch(world.loam('--json', 'images').stdout, /ingest/)
    assert.deepEqual(world.leftovers(), [])
  })

  test('an archive is read from a named pipe, also when its writer comes late, and in pieces', async () => {
    using world = new World()
    const archive = archiveIn(world)
    const fifo = join(world.folder, 'fifo')
    must('mkfifo', fifo)
    const running = await put(world, fifo, 'pipe')
    const writer = spawn('sh', [
      '-c',
      `sleep 2; { head -c 1000 ${archive}; sleep 1; tail -c +1001 ${archive}; } > ${fifo}`,
    ])
    assert.equal(await running.ended, 0, running.stderr())
    writer.kill()
    assert.match(running.stdout(), /^sha256:/)
  })

  test('an archive from a pipe is canceled by a signal, and an empty one is reported', async () => {
    using world = new World()
    const fifo = join(world.folder, 'fifo')
    const ingest = join(world.root, 'ingest')
    must('mkfifo', fifo)
    for (const file of [fifo, '-']) {
      const running = await put(world, file, 'pipe')
      // It reads once it has a place for the copy.
      const isReading = () => existsSync(ingest) && readdirSync(ingest).length > 0
      while (running.child.exitCode === null && !isReading()) await sleep(50)
      running.child.kill('SIGINT')
      assert.equal(await running.ended, 130, running.stderr())
    }
    const silent = await put(world, fifo, 'pipe')
    assert.equal(await silent.ended, 1)
    assert.match(silent.stderr(), /named pipe without a writer/)
    const empty = await put(world, '-', openSync('/dev/null', 'r'))
    assert.equal(await empty.ended, 1)
    assert.match(empty.stderr(), /standard input: it is a device/)
    assert.deepEqual(world.leftovers(), [])
    assert.ok(readFileSync('/dev/null').length === 0)
  })
})

describe('a directory that cannot be written', () => {
  const failure = (world: World, root: string, state: string) => {
    const command = [
      '--json',
      '--root',
      root,
      '--state',
      state,
      'provision',
      '--id',
      'a',
      `oci:${join(world.folder, 'layout')}`,
    ]
    const script = 'mount -t tmpfs t "$1" && mount -o remount,ro "$1" && shift && exec "$@"'
    const bin = world.args()[0] ?? ''
    const { status, stderr } = spawnSync(
      'unshare',
      ['--mount', 'sh', '-c', script, 'sh', join(world.folder, 'ro'), process.execPath, bin, ...command],
      { encoding: 'utf8', timeout: 300_000 },
    )
    assert.equal(status, 1, stderr)
    return JSON.parse(stderr.split('\n').find((line) => line.includes('"error"')) ?? '{}').error
  }

  test('a store that cannot be written is reported with a hint: read-only, an unsuitable file system, or a file in the way', () => {
    using world = new World()
    layoutIn(world)
    mkdirSync(join(world.folder, 'ro'))
    writeFileSync(join(world.folder, 'file'), '')
    const [root, state] = [join(world.folder, 'r'), join(world.folder, 's')]
    const places = [
      [join(world.folder, 'ro', 'a', 'b'), 'READ_ONLY'],
      [join(world.folder, 'ro'), 'READ_ONLY'],
      ['/proc/x/y', 'READ_ONLY'],
      [join(world.folder, 'file'), 'CONFIG_INVALID'],
      [join(world.folder, 'file', 'below'), 'CONFIG_INVALID'],
    ] as const
    for (const [index, [place, code]] of places.entries()) {
      const stores = [
        [place, state],
        [root, place],
      ] as const
      for (const store of byTurns(stores, index)) {
        const error = failure(world, ...store)
        assert.equal(error.code, code, `${place}: ${error.message}`)
        assert.match(error.hint, /--root|--state/)
      }
    }
  })
})
