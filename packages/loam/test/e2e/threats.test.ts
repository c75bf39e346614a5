// Promises of docs/security.md that no other test shows: images that attack tools, and directories with odd names.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import {
  type BuildEntry,
  buildAci,
  type BuiltImage,
  buildImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { programPath } from '../support/test-tools.ts'
import { failureOf, layoutOf, must, provision, World } from '../support/world.ts'

function imageOf(...layers: readonly (readonly BuildEntry[])[]): BuiltImage {
  const tars = layers.map((entries) => buildTar([...entries]))
  return buildImage({ tars, config: { Cmd: ['/bin/true'], User: 'app' } })
}

describe('images', () => {
  test('images with fifos, devices and links where a file comes later show the file, and nothing waits', () => {
    const before: BuildEntry[] = [
      { name: 'fifo', type: 'fifo' },
      { name: 'device', type: 'character', deviceMajor: 1, deviceMinor: 3 },
      { name: 'link', type: 'symlink', linkName: '/etc/passwd' },
      { name: 'socket', type: 'fifo' },
      { name: 'socket', data: 'same layer' },
    ]
    const after = ['fifo', 'device', 'link'].map((name) => ({ name, data: 'a file' }))
    for (const backend of ['erofs', 'overlay', 'copy']) {
      using world = new World()
      const { rootfs } = provision(
        world,
        layoutOf(world, imageOf(before, after)),
        '--backend',
        backend,
        '--id',
        'c',
      )
      for (const { name, data } of [...after, { name: 'socket', data: 'same layer' }]) {
        assert.ok(lstatSync(join(rootfs, name)).isFile(), `${backend}: ${name}`)
        assert.equal(readFileSync(join(rootfs, name), 'utf8'), data)
      }
    }
  })

  test('images whose passwd leads out, is a fifo, is a device or is huge reveal nothing of this machine and block nothing', () => {
    const kinds: Record<string, BuildEntry> = {
      'points outside': { name: 'etc/passwd', type: 'symlink', linkName: '../../../../../../etc/passwd' },
      'leads out by proc': { name: 'etc/passwd', type: 'symlink', linkName: '/proc/self/environ' },
      fifo: { name: 'etc/passwd', type: 'fifo' },
      device: { name: 'etc/passwd', type: 'character', deviceMajor: 1, deviceMinor: 5 },
      huge: { name: 'etc/passwd', data: Buffer.alloc(3 << 20, 'app:x:1:1::/:/bin/sh\n') },
    }
    for (const [kind, entry] of Object.entries(kinds)) {
      using world = new World()
      const image = layoutOf(world, imageOf([{ name: 'etc/' }, entry]))
      const { status, stdout, stderr } = world.loam('--json', 'run', image)
      assert.notEqual(status, 0, kind)
      assert.ok(!/root:|daemon:|PATH=/.test(stdout + stderr), `${kind}: ${stderr}`)
      assert.match(stderr, /USER_NOT_FOUND|LAYER_LIMIT|app/, kind)
      assert.deepEqual(world.mounts(), [])
    }
  })

  test('images that call themselves Appc images of another name are not found by that name', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const { bytes } = buildAci({
      manifest: { name: 'example.com/base' },
      entries: [{ name: 'real', data: 'x' }],
    })
    const aci = join(world.folder, 'base.aci')
    writeFileSync(aci, bytes)
    const honest = world.loam('--json', 'pull', `aci:${aci}`)
    assert.equal(honest.status, 0, honest.stderr)
    const { manifest } = JSON.parse(world.loam('--json', 'inspect', `aci:${aci}`).stdout)
    assert.equal(world.loam('rmi', `aci:${aci}`).status, 0)
    // The same annotation, over a layer of another image.
    const image = buildImage({ tars: [buildTar([{ name: 'forged', data: 'x' }])] })
    const parts = JSON.parse(manifest.annotations['io.loam.appc.images'])
    for (const part of parts) part.diffId = image.diffIds[0]
    const forged = JSON.parse(image.manifest.bytes.toString())
    forged.annotations = { 'io.loam.appc.images': JSON.stringify(parts) }
    writeOciLayout(layout, { image: { ...image, ...remade(forged) } })
    assert.equal(world.loam('pull', `oci:${layout}:image`).status, 0)
    const wanted = world.loam(
      '--json',
      `--appc-simple-discovery-uri-prefix=${world.folder}/nothing/`,
      'pull',
      'appc://example.com/base,version=1.0.0',
    )
    assert.equal(wanted.status, 1, wanted.stdout)
  })

  test('images with control characters in their texts send none to a terminal, and neither do paths and errors', () => {
    using world = new World()
    const hidden = '\u001b]0;X\u0007\u009b31m\u202e\u200b\u007f'
    const layout = join(world.folder, `layout${hidden}`)
    const config = { Cmd: ['/bin/true'], Env: [`A=${hidden}`], Labels: { [hidden]: `\n${hidden}` } }
    const platform = { os: 'linux', architecture: `amd64${hidden}\n`, variant: hidden }
    const tar = buildTar([{ name: `file${hidden}`, data: 'x' }])
    writeOciLayout(layout, { image: buildImage({ tars: [tar], config, platform }) })
    const image = `oci:${layout}:image`
    for (const command of [
      ['provision', '--id', 'c', image],
      ['images'],
      ['--json', 'images'],
      ['inspect', image],
      ['ps'],
      ['--json', 'df'],
      ['pull', `oci:${layout}:${hidden}`],
      ['--json', 'rmi', hidden],
      [`--${hidden}`],
    ]) {
      const { stdout, stderr } = world.loam(...command)
      assert.ok(stdout.length + stderr.length > 0)
      assert.doesNotMatch(stdout + stderr, /[^\n -~…]/, command.join(' '))
      assert.ok(stdout.split('\n').every((line) => line.length < 2000))
    }
  })

  test('images in forms that the kernel would have to trust are refused', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const image = buildImage({ tars: [buildTar([{ name: 'x' }])] })
    const manifest = JSON.parse(image.manifest.bytes.toString())
    manifest.layers[0].mediaType = 'application/vnd.erofs.layer.v1'
    writeOciLayout(layout, { image: { ...image, ...remade(manifest) } })
    assert.equal(failureOf(world, 'pull', `oci:${layout}:image`).code, 'MEDIA_TYPE_UNSUPPORTED')
    // As a tar, an EROFS image has no entries: it is never mounted.
    const disk = join(world.folder, 'x.erofs')
    must('sh', '-ec', `cd ${world.folder}; mkdir tree; touch tree/evil; mkfs.erofs --quiet ${disk} tree`)
    const second = join(world.folder, 'second')
    writeOciLayout(second, { image: buildImage({ tars: [readFileSync(disk)], compression: 'none' }) })
    const { rootfs } = provision(world, `oci:${second}:image`, '--id', 'c')
    assert.deepEqual(readdirSync(rootfs), [])
  })
})

function remade(manifest: unknown): Pick<BuiltImage, 'manifest'> {
  const bytes = Buffer.from(JSON.stringify(manifest))
  return { manifest: { digest: digestOf(bytes), bytes } }
}

describe('the store', () => {
  test('the store is for its owner alone, from the first moment on and again when its mode was changed', () => {
    using world = new World()
    mkdirSync(world.root)
    chmodSync(world.root, 0o755)
    assert.equal(world.loam('images').status, 0)
    assert.equal(statSync(world.root).mode & 0o777, 0o700)
    chmodSync(world.root, 0o777)
    assert.equal(world.loam('images').status, 0)
    assert.equal(statSync(world.root).mode & 0o777, 0o700)
  })

  test('a state directory of another user is refused, and so is one that another user could replace or has prepared', () => {
    using world = new World()
    const stranger = '65534'
    const place = world.path('place')
    const state = join(place, 'state')
    const refuse = (why: RegExp) => {
      const daemon = spawnSync(
        programPath('loamd'),
        ['--root', world.root, '--state', state, '--no-remote'],
        {
          encoding: 'utf8',
        },
      )
      assert.equal(daemon.status, 1)
      assert.match(daemon.stderr, why)
      const words = ['--json', 'run', '--daemon=never', `--state=${state}`, 'oci:nowhere']
      const { code, message } = world.failure(...words)
      assert.equal(code, 'STORE_UNSAFE')
      assert.match(message, why)
    }
    for (const unsafe of [state, place, join(state, 'bundles')]) {
      mkdirSync(join(state, 'bundles'), { recursive: true })
      must('chown', stranger, unsafe)
      refuse(new RegExp(`${unsafe} is owned by user 65534`))
      must('chown', '0', unsafe)
      chmodSync(unsafe, 0o777)
      refuse(new RegExp(`others may write to ${unsafe} \\(mode 777\\)`))
      rmSync(place, { recursive: true })
    }
    mkdirSync(place)
    symlinkSync(world.state, state)
    must('chown', '-h', stranger, state)
    refuse(new RegExp(`${state} is owned by user 65534`))
    // A store that exists, and one that does not.
    for (const root of [world.root, world.path('new')]) {
      const { stdout } = world.loam('doctor', '--daemon=never', `--root=${root}`, `--state=${state}`)
      assert.match(stdout, /unsuitable: .*state is owned by user 65534/)
    }
    must('chown', '-h', '0', state)
    assert.equal(world.loam('images', '--daemon=never', `--state=${state}`).status, 0)
  })

  test('the store may be in a directory whose name means something to mount', () => {
    for (const odd of ['a:b,c\\d', "it's =ünïcode"]) {
      using world = new World()
      const root = join(world.folder, odd, 'store')
      mkdirSync(join(world.folder, odd))
      const image = layoutOf(world, imageOf([{ name: 'base' }], [{ name: 'top' }]))
      for (const backend of ['erofs', 'overlay', 'copy']) {
        const args = [`--root=${root}`, '--backend', backend, '--id', backend]
        const { rootfs } = provision(world, image, ...args)
        assert.deepEqual(readdirSync(rootfs), ['base', 'top'], `${odd}, ${backend}`)
        writeFileSync(join(rootfs, 'written'), '')
        assert.equal(world.loam('destroy', `--root=${root}`, backend).status, 0)
      }
      assert.deepEqual(world.mounts(), [])
    }
  })
})

describe('registries', () => {
  test('registries cannot have layers fetched from elsewhere: addresses in a manifest are never used', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    let asked = 0
    const elsewhere = createServer((_request, response) => {
      asked += 1
      response.end('x')
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    elsewhere.listen(0, '127.0.0.1', resolve)
    await promise
    try {
      const { port } = elsewhere.address() as AddressInfo
      const image = buildImage({ tars: [buildTar([{ name: 'x' }])] })
      const manifest = JSON.parse(image.manifest.bytes.toString())
      manifest.layers[0].urls = [`http://127.0.0.1:${port}/layer`, 'file:///etc/passwd']
      manifest.layers[0].digest = `sha256:${'0'.repeat(64)}`
      server.addImage('app', '1', { ...image, ...remade(manifest) })
      const { status, stderr } = await world.loamAsync('--json', 'pull', `${server.host}/app:1`)
      assert.equal(status, 1)
      assert.equal(JSON.parse(stderr).error.code, 'IMAGE_NOT_FOUND')
      assert.equal(asked, 0)
    } finally {
      elsewhere.close()
    }
  })

  test('registries that send something wrong once are asked once more, from the start, and nothing wrong is kept', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    const image = buildImage({ tars: [buildTar([{ name: 'x', data: Buffer.alloc(100_000, 'abc') }])] })
    server.addImage('app', '1', image)
    const [layer] = image.layers
    assert.ok(layer !== undefined)
    let poisoned = 0
    server.intercept = (request, response) => {
      if (request.url?.includes(layer.digest) !== true || poisoned > 0) return false
      poisoned += 1
      assert.equal(request.headers.range, undefined)
      response.end(Buffer.alloc(layer.bytes.length, 'poison'))
      return true
    }
    const pulled = await world.loamAsync('pull', `${server.host}/app:1`)
    assert.equal(pulled.status, 0, pulled.stderr)
    assert.deepEqual([poisoned, server.countBlob(layer.digest)], [1, 2])
    assert.deepEqual(world.leftovers(), [])
    assert.equal(world.loam('fsck').status, 0)
  })
})
