// Every fault of an input or of the machine gives one clear error, and nothing is left behind.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import {
  type BuildEntry,
  type BuiltImage,
  buildImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { byTurns } from '../support/rounds.ts'
import { type CommandResult, type Failure, must, World } from '../support/world.ts'

/** The one JSON object of a failed command; one error, no stack. */
function onlyFailureOf({ status, stderr, stdout }: CommandResult, expectedStatus = 1): Failure {
  assert.equal(status, expectedStatus, stderr)
  assert.equal(stdout, '')
  const lines = stderr.trim().split('\n')
  assert.equal(lines.length, 1, stderr)
  assert.ok(!stderr.includes('    at '), stderr)
  return JSON.parse(lines[0] ?? '').error
}

/** Nothing of a failed command may be in the store. */
function assertNothingLeft(world: World): void {
  assert.deepEqual(world.leftovers(), [])
  assert.deepEqual(world.mounts(), [])
  assert.deepEqual(readdirSync(join(world.root, 'layers')), [])
  assert.deepEqual(readdirSync(join(world.root, 'containers')), [])
  assert.deepEqual(world.json('images'), [])
  assert.deepEqual(world.json('ps'), [])
}

describe('hostile layers', () => {
  const cases: Record<string, { entries: BuildEntry[]; code: string }> = {
    'a name that climbs out': { entries: [{ name: '../../evil', data: 'x' }], code: 'TAR_UNSAFE' },
    'a hard link out of the tree': {
      entries: [{ name: 'l', type: 'hardlink', linkName: '../../../../etc/passwd' }],
      code: 'TAR_UNSAFE',
    },
    'a hard link to a host file': {
      entries: [{ name: 'l', type: 'hardlink', linkName: '/etc/passwd' }],
      code: 'TAR_INVALID',
    },
    'an entry below a file': {
      entries: [
        { name: 'f', data: 'x' },
        { name: 'f/x', data: 'x' },
      ],
      code: 'TAR_UNSAFE',
    },
    'a declared size of petabytes': { entries: [{ name: 'f', sizeBytes: 2 ** 51 }], code: 'LAYER_LIMIT' },
    'a root that is a symlink': {
      entries: [{ name: '.', type: 'symlink', linkName: '/etc' }],
      code: 'TAR_UNSAFE',
    },
    'a whiteout of the parent': { entries: [{ name: 'd/.wh...' }], code: 'TAR_UNSAFE' },
  }
  for (const [place, [name, { entries, code }]] of Object.entries(cases).entries()) {
    for (const backend of byTurns(['erofs', 'overlay', 'copy'], place)) {
      test(`${name} is refused (${backend})`, () => {
        using world = new World()
        const layout = join(world.folder, 'layout')
        writeOciLayout(layout, { bad: buildImage({ tars: [buildTar(entries)] }) })
        const failure = onlyFailureOf(
          world.loam('--json', 'provision', '--backend', backend, `oci:${layout}:bad`),
        )
        assert.equal(failure.code, code, failure.message)
        // A hard link without a target in any layer is found when layers are merged: the sound layer may stay.
        if (code !== 'TAR_INVALID') assertNothingLeft(world)
        assert.deepEqual([world.leftovers(), world.mounts()], [[], []])
      })
    }
  }

  test('symlinks that lead out of a layer touch nothing outside, in any layer', () => {
    for (const backend of ['erofs', 'overlay', 'copy']) {
      using world = new World()
      const outside = join(world.folder, 'outside')
      mkdirSync(outside)
      writeFileSync(join(outside, 'file'), 'untouched')
      const earlier = statSync(join(outside, 'file')).mtimeMs
      const layout = join(world.folder, 'layout')
      const up = '../'.repeat(20)
      const first = buildTar([
        { name: 'abs', type: 'symlink', linkName: outside },
        { name: 'rel', type: 'symlink', linkName: `${up}${outside.slice(1)}` },
        { name: 'a', type: 'symlink', linkName: 'b' },
        { name: 'b', type: 'symlink', linkName: outside },
        { name: 'abs/in-layer', data: 'x' },
        { name: 'a/through', data: 'x' },
        { name: '/absolute', data: 'x' },
      ])
      const second = buildTar([
        { name: 'abs/file', data: 'overwritten' },
        { name: 'rel/.wh.file' },
        { name: 'a', data: 'a file now' },
        { name: 'b/.wh..wh..opq' },
      ])
      writeOciLayout(layout, { bad: buildImage({ tars: [first, second] }) })
      const { status, stdout, stderr } = world.loam(
        'provision',
        '--backend',
        backend,
        '--id',
        'c',
        `oci:${layout}:bad`,
      )
      assert.equal(status, 0, stderr)
      assert.deepEqual(readdirSync(outside), ['file'])
      assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'untouched')
      assert.equal(statSync(join(outside, 'file')).mtimeMs, earlier)
      assert.equal(readFileSync(join(stdout.trim(), 'absolute'), 'utf8'), 'x')
      world.loam('destroy', 'c')
    }
  })

  test('a million tiny entries need little memory', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const block = buildTar([{ name: 'x', type: 'hardlink', linkName: 'y' }]).subarray(0, 512)
    const first = buildTar([{ name: 'y', data: '' }]).subarray(0, 512)
    const tar = Buffer.concat([first, ...Array.from({ length: 1_000_000 }, () => block), Buffer.alloc(1024)])
    writeOciLayout(layout, { many: buildImage({ tars: [tar] }) })
    const { status, stderr } = world.loam('pull', `oci:${layout}:many`)
    assert.equal(status, 0, stderr)
  })

  test('a character device 0:0 makes overlay step aside for copy', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { odd: buildImage({ tars: [buildTar([{ name: 'dev', type: 'character' }])] }) })
    assert.equal(
      onlyFailureOf(world.loam('--json', '--quiet', 'provision', '--backend', 'overlay', `oci:${layout}:odd`))
        .code,
      'BACKEND_UNSUPPORTED',
    )
    const made = world.json('provision', '--id', 'c', `oci:${layout}:odd`)
    assert.equal(made.backend, 'copy')
    assert.ok(statSync(join(made.rootfs, 'dev')).isCharacterDevice())
  })
})

describe('limits', () => {
  const entries: BuildEntry[] = [
    { name: 'a/', xattrs: { 'user.x': 'x'.repeat(100) } },
    { name: 'a/b/' },
    { name: 'a/b/c/' },
    { name: 'a/b/c/file', data: 'x'.repeat(5000) },
  ]
  const lowered = {
    limit_layer_bytes: 4000,
    limit_layer_entries: 3,
    limit_layer_depth: 3,
    limit_layer_xattr_bytes: 50,
    limit_file_bytes: 4999,
    limit_image_layers: 1,
    limit_image_bytes: 9000,
    limit_config_bytes: 50,
  }
  for (const [name, value] of Object.entries(lowered)) {
    test(`${name} is reported by its name, with the way to raise it, and leaves nothing`, () => {
      using world = new World()
      const layout = join(world.folder, 'layout')
      const second = [{ name: 'second', data: 'x'.repeat(4000) }]
      writeOciLayout(layout, { image: buildImage({ tars: [buildTar(entries), buildTar(second)] }) })
      const pull = (env: NodeJS.ProcessEnv) => world.loamWith(env, '--json', 'pull', `oci:${layout}:image`)
      const failure = onlyFailureOf(pull({ [`LOAM_${name.toUpperCase()}`]: String(value) }))
      if (name === 'limit_config_bytes') assert.equal(failure.code, 'DOCUMENT_TOO_LARGE')
      else {
        assert.equal(failure.code, 'LAYER_LIMIT')
        assert.ok(failure.message.includes(`${name} allows ${value}`), failure.message)
        assert.ok(failure.hint?.includes(`--${name.replaceAll('_', '-')}`) === true)
      }
      assert.deepEqual(world.json('images'), [])
      assert.deepEqual(world.leftovers(), [])
      assert.equal(pull({}).status, 0)
    })
  }
})

describe('hostile registries', () => {
  let server: RegistryServer
  let image: BuiltImage
  before(async () => {
    server = await RegistryServer.start()
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
  })

  const pull = async (world: World) =>
    onlyFailureOf(await world.loamAsync('--json', 'pull', `${server.host}/app:1`))
  const serve = () => {
    image = buildImage({ tars: [buildTar([{ name: 'f', data: 'x'.repeat(5000) }])] })
    server.addImage('app', '1', image)
    return image.layers[0]!
  }
  const cases: Record<string, [change: () => void, code: string]> = {
    'a layer that is cut off': [
      () => {
        const layer = serve()
        server.setBlob(layer.digest, layer.bytes.subarray(0, -5))
      },
      'SIZE_MISMATCH',
    ],
    'a layer that is too long': [
      () => {
        const layer = serve()
        server.setBlob(layer.digest, Buffer.concat([layer.bytes, Buffer.alloc(100)]))
      },
      'SIZE_MISMATCH',
    ],
    'a layer with other bytes': [
      () => {
        const layer = serve()
        server.setBlob(
          layer.digest,
          Buffer.from(layer.bytes.map((byte, index) => (index === 40 ? byte ^ 1 : byte))),
        )
      },
      'DIGEST_MISMATCH',
    ],
    'a config with other bytes': [
      () => {
        serve()
        server.setBlob(
          image.config.digest,
          Buffer.from(image.config.bytes.toString().replace('amd64', 'amd63')),
        )
      },
      'DIGEST_MISMATCH',
    ],
    'a web page for a manifest': [
      () => {
        serve()
        server.addManifest(
          'app',
          '1',
          { digest: image.manifest.digest, bytes: Buffer.from('<html>login</html>') },
          'text/html',
        )
      },
      'DOCUMENT_INVALID',
    ],
    'a missing layer': [
      () => {
        const layer = serve()
        const manifest = image.manifest.bytes.toString().replace(layer.digest, `sha256:${'0'.repeat(64)}`)
        server.addManifest(
          'app',
          '1',
          { digest: image.manifest.digest, bytes: Buffer.from(manifest) },
          image.mediaType,
        )
      },
      'IMAGE_NOT_FOUND',
    ],
    'another number of layers than diffIDs': [
      () => {
        serve()
        const manifest = JSON.parse(image.manifest.bytes.toString())
        manifest.layers.push(manifest.layers[0])
        server.addManifest(
          'app',
          '1',
          { digest: image.manifest.digest, bytes: Buffer.from(JSON.stringify(manifest)) },
          image.mediaType,
        )
      },
      'DOCUMENT_INVALID',
    ],
    'a layer whose tar is not the diffID': [
      () => {
        const other = gzipSync(buildTar([{ name: 'g', data: 'y' }]))
        const built = buildImage({ tars: [buildTar([{ name: 'f' }])] })
        const manifest = JSON.parse(built.manifest.bytes.toString())
        const lying = buildImage({ tars: [buildTar([{ name: 'g', data: 'y' }])] })
        manifest.layers = JSON.parse(lying.manifest.bytes.toString()).layers
        server.addImage('app', '1', built)
        server.addImage('other', '1', lying)
        server.addManifest(
          'app',
          '1',
          { digest: built.manifest.digest, bytes: Buffer.from(JSON.stringify(manifest)) },
          built.mediaType,
        )
        assert.ok(other.length > 0)
      },
      'DIGEST_MISMATCH',
    ],
  }
  for (const [name, [change, code]] of Object.entries(cases)) {
    test(`a registry with ${name} fails with ${code}, and nothing is kept`, async () => {
      using world = new World()
      change()
      const failure = await pull(world)
      assert.equal(failure.code, code, failure.message)
      assertNothingLeft(world)
    })
  }

  test('a pull from a registry that sends too slowly fails after limit_pull_time', async () => {
    using world = new World()
    const layer = serve()
    server.intercept = (request, response) => {
      if (request.url?.includes(layer.digest) !== true) return false
      response.writeHead(200, { 'content-length': layer.bytes.length })
      const drip = setInterval(() => response.write('x'), 100)
      response.once('close', () => {
        clearInterval(drip)
      })
      return true
    }
    try {
      const failure = onlyFailureOf(
        await world.loamAsync('--json', '--limit-pull-time=2secs', 'pull', `${server.host}/app:1`),
      )
      assert.equal(failure.code, 'LAYER_LIMIT')
      assert.match(failure.message, /limit_pull_time allows 2secs/)
      assertNothingLeft(world)
    } finally {
      server.intercept = () => false
    }
  })

  test('a registry that cannot be reached is reported at once', async () => {
    using world = new World()
    const failure = onlyFailureOf(await world.loamAsync('--json', 'pull', '127.0.0.1:1/app:1'))
    assert.equal(failure.code, 'REGISTRY_UNREACHABLE')
  })
})

describe('a faulty machine', () => {
  test('a full disk is reported at every step, leaves nothing, and prune and a retry work', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const tar = buildTar(
      Array.from({ length: 40 }, (_value, index) => ({
        name: `f${index}`,
        data: Buffer.alloc(50_000, index + 1),
      })),
    )
    writeOciLayout(layout, { big: buildImage({ tars: [tar], compression: 'none' }) })
    mkdirSync(world.root)
    let sawFull = 0
    for (const sizeKb of [400, 1200, 2000, 2600, 3400, 4000, 5200]) {
      must('mount', '-t', 'tmpfs', '-o', `size=${sizeKb}k`, 'tmpfs', world.root)
      const result = world.loam(
        '--json',
        'provision',
        '--id',
        'c',
        '--backend',
        'overlay',
        `oci:${layout}:big`,
      )
      if (result.status !== 0) {
        sawFull += 1
        const failure = onlyFailureOf(result)
        assert.equal(failure.code, 'NO_SPACE', failure.message)
        assert.ok(failure.hint !== undefined)
        must('mount', '-o', 'remount,size=20m', world.root)
        assert.deepEqual(world.leftovers(), [])
        assert.equal(world.loam('prune').status, 0)
        const again = world.loam('provision', '--id', 'c', '--backend', 'overlay', `oci:${layout}:big`)
        assert.equal(again.status, 0, again.stderr)
      }
      assert.equal(world.loam('destroy', 'c').status, 0)
      must('umount', world.root)
    }
    assert.ok(sawFull >= 3, `the disk was full ${sawFull} times`)
  })

  test('a store that is read-only, owned by another user or in a foreign directory is refused', () => {
    using world = new World()
    mkdirSync(world.root)
    must('mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', world.root)
    assert.equal(onlyFailureOf(world.loam('--json', 'images')).code, 'READ_ONLY')
    must('umount', world.root)
    writeFileSync(join(world.root, 'letter'), 'mine')
    assert.equal(onlyFailureOf(world.loam('--json', 'images')).code, 'STORE_FORMAT')
    assert.deepEqual(readdirSync(world.root), ['letter'])
    must('chown', '1000', world.root)
    assert.equal(onlyFailureOf(world.loam('--json', 'images')).code, 'STORE_UNSAFE')
    chmodSync(world.root, 0o700)
    symlinkSync('/proc/nothing', join(world.folder, 'dangling'))
    const nowhere = world.loam('--root', '/proc/nothing/store', '--json', 'images')
    assert.equal(nowhere.status, 1)
  })

  test('the command ends even if its output cannot be flushed', () => {
    using world = new World()
    assert.equal(world.loam('images').status, 0)
    const out = join(world.folder, 'out')
    const command = `strace -f -qq -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:error=EIO ${process.execPath} ${world.args('images').join(' ')} > ${out}`
    const { signal } = spawnSync('sh', ['-c', command], { timeout: 300_000, killSignal: 'SIGKILL' })
    assert.equal(signal, null)
  })

  test('a result stands when unfinished work cannot be removed, and the next recovery removes it', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: buildImage({ tars: [buildTar([{ name: 'f' }])] }) })
    assert.equal(world.loam('images').status, 0)
    const failing = 'trace=unlink -e inject=unlink:error=EIO'
    const pulled = spawnSync(
      'sh',
      [
        '-c',
        `strace -f -qq -o /dev/null -e ${failing} ${process.execPath} ${world.args('pull', `oci:${layout}:app`).join(' ')}`,
      ],
      { timeout: 300_000, killSignal: 'SIGKILL', encoding: 'utf8' },
    )
    assert.equal(pulled.status, 0, pulled.stderr)
    assert.match(pulled.stdout, /^sha256:/)
    assert.equal(world.loam('recover').status, 0)
    assert.deepEqual(world.leftovers(), [])
    assert.deepEqual(
      readdirSync(world.root).filter((name) => name.startsWith('.')),
      [],
    )
    assert.equal(world.loam('fsck').status, 0)
  })
})
