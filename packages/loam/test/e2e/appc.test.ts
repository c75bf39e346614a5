// Appc images: built by actool and by the tests, found by discovery over TLS, checked against the specification.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:https'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { isLoamError } from '../../src/errors/index.ts'
import { parseAppcManifest } from '../../src/image/index.ts'
import { appcLabels, buildAci, type BuildAciOptions, listTree } from '../../src/testing/index.ts'
import { packedBy, tarOf } from '../support/packing.ts'
import { setUp } from '../../src/testing/set-up.ts'
import { failureOf, listen, createCertificates, must, World, provision } from '../support/world.ts'

const BUSYBOX = '/bin/busybox'
const LABELS = { version: '1.0.0', os: 'linux', arch: 'amd64' }

function manifestOf(name: string, rest: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { name, labels: appcLabels(LABELS), ...rest }
}

/** Writes an ACI under its name for simple discovery, and returns its id. */
function writeAci(
  folder: string,
  name: string,
  options: Partial<BuildAciOptions> & { version?: string } = {},
): string {
  const version = options.version ?? '1.0.0'
  const manifest = {
    ...manifestOf(name),
    labels: appcLabels({ ...LABELS, version }),
    ...options.manifest,
  }
  const { bytes, id } = buildAci({ entries: [], ...options, manifest })
  const path = join(folder, `${name}-${version}-linux-amd64.aci`)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
  return id
}

/** A folder of images in which A depends on B and D, and both of them on C. */
function writeDiamond(folder: string): void {
  const file = (name: string, data: string) => [
    { name: 'shared', data: name },
    { name, data },
  ]
  const needs = (...names: string[]) => ({
    dependencies: names.map((imageName) => ({ imageName, labels: appcLabels({ version: '1.0.0' }) })),
  })
  writeAci(folder, 'example.com/c', { entries: file('c', 'from c') })
  writeAci(folder, 'example.com/b', { entries: file('b', 'from b'), manifest: needs('example.com/c') })
  writeAci(folder, 'example.com/d', { entries: file('d', 'from d'), manifest: needs('example.com/c') })
  writeAci(folder, 'example.com/a', {
    entries: file('a', 'from a'),
    manifest: needs('example.com/b', 'example.com/d'),
  })
}

/** Web addresses have no ports in names of Appc images: a loopback address of its own keeps 80 and 443 apart from all others. */
const HOST = `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`

describe('ACI files', () => {
  test('an ACI that actool built has the tree that GNU tar unpacks, with every backend and compression', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    mkdirSync(join(layout, 'rootfs/bin'), { recursive: true })
    copyFileSync(BUSYBOX, join(layout, 'rootfs/bin/busybox'))
    must(
      'sh',
      '-c',
      `cd ${layout}/rootfs && ln bin/busybox bin/sh && ln -s /bin/sh link && mkfifo fifo && mkdir -m 1777 tmp && setfattr -n user.x -v y bin`,
    )
    writeFileSync(
      join(layout, 'manifest'),
      JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.8.11', ...manifestOf('example.com/app') }),
    )
    const aci = join(world.folder, 'app.aci')
    must('actool', 'build', layout, aci)
    must('actool', 'validate', aci)
    const expected = join(world.folder, 'expected')
    mkdirSync(expected)
    must('tar', '-xf', aci, '-C', expected, '--xattrs', '--xattrs-include=*', '--numeric-owner')
    const tar = execFileSync('zcat', [aci], { maxBuffer: 64 << 20 })
    const files = [
      aci,
      tarOf(world.folder, tar),
      packedBy('bzip2', world.folder, tar),
      packedBy('xz', world.folder, tar),
    ]
    const digests = new Set<string>()
    for (const [index, backend] of ['erofs', 'overlay', 'copy', 'bind'].entries()) {
      const made = provision(world, `aci:${files[index]}`, '--backend', backend)
      digests.add(made.image.digest)
      assert.deepEqual(listTree(made.rootfs), listTree(join(expected, 'rootfs')), backend)
      assert.equal(made.image.appcManifest.name, 'example.com/app')
      assert.equal(made.image.dockerManifest, undefined)
      world.loam('destroy', made.containerId)
    }
    // The same image, however it is packed: its id is that of the plain tar.
    assert.equal(digests.size, 1)
    const id = `sha512-${must('sh', '-c', `zcat ${aci} | sha512sum`).split(' ')[0]}`
    assert.equal(
      provision(world, `appc://example.com/app,id=${id}`).image.appcManifest.name,
      'example.com/app',
    )
  })

  test('the app section of an ACI names the process, and arguments replace everything except the program', () => {
    using world = new World()
    const app = {
      exec: ['/bin/sh', '-c', 'echo $GREETING; id -u; pwd'],
      user: '1000',
      group: '1000',
      workingDirectory: '/etc',
      environment: [{ name: 'GREETING', value: 'hello' }],
    }
    const { bytes } = buildAci({
      manifest: manifestOf('example.com/app', { app }),
      entries: [
        { name: 'bin/' },
        { name: 'etc/' },
        { name: 'bin/sh', data: readFileSync(BUSYBOX), mode: 0o755 },
      ],
    })
    const path = join(world.folder, 'app.aci')
    writeFileSync(path, bytes)
    const run = (...args: string[]) => {
      const { status, stdout, stderr } = world.loam('run', ...args)
      assert.equal(status, 0, stderr)
      return stdout
    }
    assert.equal(run(`aci:${path}`), 'hello\n1000\n/etc\n')
    assert.equal(run(`aci:${path}`, '-c', 'echo $GREETING again'), 'hello again\n')
    assert.equal(run('--docker_ignore_runtime', '--shell', 'echo [$GREETING]; pwd', `aci:${path}`), '[]\n/\n')
    const info = JSON.stringify({ shell: false, arguments: ['-c', 'echo info'] })
    assert.equal(run('--command-info', info, `aci:${path}`), 'info\n')
  })

  test('an invalid ACI is reported, and nothing of it is left', () => {
    using world = new World()
    const good = { manifest: manifestOf('example.com/app'), entries: [{ name: 'file', data: 'x' }] }
    const cases: readonly (readonly [string, Buffer, string])[] = [
      ['no archive', Buffer.from('hello, this is no archive at all'), 'TAR_INVALID'],
      ['nothing', Buffer.alloc(0), 'SOURCE_INVALID'],
      ['cut off', buildAci(good).bytes.subarray(0, 90), 'COMPRESSION_INVALID'],
      [
        'a file beside rootfs',
        buildAci({ ...good, extra: [{ name: 'other', data: '' }] }).bytes,
        'SOURCE_INVALID',
      ],
      [
        'two manifests',
        buildAci({ ...good, extra: [{ name: './manifest', data: '{}' }] }).bytes,
        'SOURCE_INVALID',
      ],
      [
        'a name that leads out',
        buildAci({ ...good, extra: [{ name: 'rootfs/../../x', data: '' }] }).bytes,
        'SOURCE_INVALID',
      ],
      [
        'a hard link that leads out',
        buildAci({ ...good, extra: [{ name: 'rootfs/x', type: 'hardlink', linkName: 'manifest' }] }).bytes,
        'TAR_UNSAFE',
      ],
      [
        'a rootfs that is a link',
        buildAci({ ...good, extra: [{ name: 'rootfs', type: 'symlink', linkName: '/' }] }).bytes,
        'SOURCE_INVALID',
      ],
      [
        'a manifest that is none',
        buildAci({ ...good, manifest: { name: 'Not A Name' } }).bytes,
        'DOCUMENT_INVALID',
      ],
    ]
    for (const [what, bytes, code] of cases) {
      const path = join(world.folder, 'bad.aci')
      writeFileSync(path, bytes)
      assert.equal(failureOf(world, 'pull', `aci:${path}`).code, code, what)
    }
    assert.equal(failureOf(world, 'pull', 'aci:/nothing/here.aci').code, 'SOURCE_NOT_FOUND')
    assert.deepEqual(JSON.parse(world.loam('--json', 'images').stdout), [])
  })

  test('a decompression bomb in an ACI is stopped', () => {
    using world = new World()
    const { tar } = buildAci({
      manifest: manifestOf('example.com/app'),
      entries: [{ name: 'zeros', data: Buffer.alloc(32 << 20) }],
    })
    const path = packedBy('bzip2', world.folder, tar)
    assert.equal(failureOf(world, 'pull', `aci:${path}`).code, 'LAYER_LIMIT')
    assert.equal(failureOf(world, '--limit_layer_bytes=1000', 'pull', `aci:${path}`).code, 'LAYER_LIMIT')
  })
})

describe('dependencies', () => {
  test('a diamond of ACI dependencies is four layers: each once, and a dependency below the images that depend on it', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    writeDiamond(folder)
    for (const backend of ['erofs', 'overlay', 'copy']) {
      const made = provision(
        world,
        'appc://example.com/a:1.0.0',
        '--backend',
        backend,
        `--appc_simple_discovery_uri_prefix=${folder}`,
      )
      const parts = JSON.parse(made.image.manifest.annotations['io.loam.appc.images'] ?? '')
      const names = parts.map(({ manifest }: { manifest: string }) => JSON.parse(manifest).name.slice(-1))
      assert.deepEqual(names, ['c', 'b', 'd', 'a'])
      assert.deepEqual(readdirSync(made.rootfs).toSorted(), ['a', 'b', 'c', 'd', 'shared'])
      assert.equal(readFileSync(join(made.rootfs, 'shared'), 'utf8'), 'a')
      assert.equal(made.image.appcManifest.name, 'example.com/a')
    }
  })

  test('an ACI dependency with another id, and one that depends on itself, are refused', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    const prefix = `--appc_simple_discovery_uri_prefix=${folder}`
    writeAci(folder, 'example.com/base')
    const imageID = `sha512-${'0'.repeat(128)}`
    writeAci(folder, 'example.com/top', {
      manifest: {
        dependencies: [{ imageName: 'example.com/base', imageID, labels: appcLabels({ version: '1.0.0' }) }],
      },
    })
    assert.equal(failureOf(world, prefix, 'pull', 'appc://example.com/top:1.0.0').code, 'DIGEST_MISMATCH')
    assert.equal(
      failureOf(world, prefix, 'pull', `appc://example.com/base:1.0.0,id=${imageID}`).code,
      'DIGEST_MISMATCH',
    )
    const on = (imageName: string) => ({
      dependencies: [{ imageName, labels: appcLabels({ version: '1.0.0' }) }],
    })
    writeAci(folder, 'example.com/x', { manifest: on('example.com/y') })
    writeAci(folder, 'example.com/y', { manifest: on('example.com/x') })
    const cycle = failureOf(world, prefix, 'pull', 'appc://example.com/x:1.0.0')
    assert.equal(cycle.code, 'SOURCE_INVALID')
    assert.match(cycle.message, /depends on itself/)
    assert.equal(failureOf(world, prefix, 'pull', 'appc://example.com/x:2.0.0').code, 'SOURCE_NOT_FOUND')
    // A file that claims to be another image, and a name that would lead out of the folder.
    copyFileSync(
      join(folder, 'example.com/base-1.0.0-linux-amd64.aci'),
      join(folder, 'example.com/liar-1.0.0-linux-amd64.aci'),
    )
    assert.equal(failureOf(world, prefix, 'pull', 'appc://example.com/liar:1.0.0').code, 'SOURCE_INVALID')
    assert.equal(
      failureOf(world, prefix, 'pull', 'appc://example.com/../base:1.0.0').code,
      'REFERENCE_INVALID',
    )
  })

  test('a whitelist of an ACI removes files of lower images, and none that another image shows', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    const on = (...names: string[]) =>
      names.map((imageName) => ({ imageName, labels: appcLabels({ version: '1.0.0' }) }))
    writeAci(folder, 'example.com/c', {
      entries: [
        { name: 'dir/' },
        { name: 'dir/one', data: '1' },
        { name: 'dir/two', data: '2' },
        { name: 'gone/' },
        { name: 'gone/x', data: 'x' },
      ],
    })
    writeAci(folder, 'example.com/top', {
      entries: [
        { name: 'own', data: 'own' },
        { name: 'hidden', data: 'hidden' },
        { name: 'linked', type: 'hardlink', linkName: 'hidden' },
      ],
      manifest: { dependencies: on('example.com/c'), pathWhitelist: ['/dir', '/dir/one', '/own', '/linked'] },
    })
    writeAci(folder, 'example.com/both', {
      manifest: { dependencies: on('example.com/c', 'example.com/top') },
    })
    const prefix = `--appc_simple_discovery_uri_prefix=${folder}`
    for (const backend of ['erofs', 'overlay', 'copy']) {
      const { rootfs } = provision(world, 'appc://example.com/top:1.0.0', prefix, '--backend', backend)
      assert.deepEqual(must('sh', '-c', `cd ${rootfs} && find . | sort`).trim().split('\n'), [
        '.',
        './dir',
        './dir/one',
        './linked',
        './own',
      ])
      assert.equal(readFileSync(join(rootfs, 'linked'), 'utf8'), 'hidden')
      const both = provision(world, 'appc://example.com/both:1.0.0', prefix, '--backend', backend)
      assert.deepEqual(readdirSync(join(both.rootfs, 'dir')).toSorted(), ['one', 'two'])
      assert.deepEqual(readdirSync(both.rootfs).toSorted(), ['dir', 'gone', 'linked', 'own'])
    }
  })
})

describe('discovery', () => {
  const requests: string[] = []
  const pages = new Map<string, Buffer | string>()
  let certs: World

  setUp(async (held) => {
    certs = held.use(new World())
    createCertificates(certs.folder, HOST)
    const key = readFileSync(join(certs.folder, 'server.key'))
    const cert = readFileSync(join(certs.folder, 'server.crt'))
    const server = createServer({ key, cert }, (request, response) => {
      const url = request.url ?? ''
      requests.push(url)
      const body = pages.get(url)
      response.writeHead(body === undefined ? 404 : 200).end(body ?? 'not here')
    })
    await listen(server, HOST, 443)
    held.defer(() => {
      server.closeAllConnections()
      server.close()
    })
  })

  test('dependencies of an ACI are found by the tags of a page, over TLS with an own CA', async () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    const on = (...names: string[]) => ({
      dependencies: names.map((name) => ({
        imageName: `${HOST}/team/${name}`,
        labels: appcLabels({ version: '1.0.0' }),
      })),
    })
    const expected = join(world.folder, 'expected')
    mkdirSync(expected)
    // In the order of the layers, so that tar unpacks the same.
    const graph = { c: on(), b: on('c'), d: on('c'), app: on('b', 'd') }
    const built = Object.entries(graph).map(([name, dependencies]) => {
      const layout = join(world.folder, 'layouts', name)
      mkdirSync(join(layout, 'rootfs/dir'), { recursive: true })
      for (const file of [`of-${name}`, 'shared', `dir/${name}`])
        writeFileSync(join(layout, 'rootfs', file), name)
      const text = {
        acKind: 'ImageManifest',
        acVersion: '0.8.11',
        ...manifestOf(`${HOST}/team/${name}`, dependencies),
      }
      writeFileSync(join(layout, 'manifest'), JSON.stringify(text))
      const aci = join(world.folder, `${name}.aci`)
      must('actool', 'build', layout, aci)
      must('tar', '-xf', aci, '-C', expected, '--numeric-owner')
      return [name, aci] as const
    })
    const page = `<!doctype html><html><head>
      <!-- <meta name="ac-discovery" content="${HOST}/team https://${HOST}/wrong/{name}.{ext}"> -->
      <meta content='${HOST}/team  https://${HOST}/store/{os}/{arch}/{name}-{version}.{ext}' name=ac-discovery>
      <META NAME="ac-discovery-pubkeys" CONTENT="${HOST} https://${HOST}/keys.gpg">
      <meta name="ac-discovery" content="${HOST}/other https://${HOST}/x/{name}.{ext}">
      </head></html>`
    pages.set('/team?ac-discovery=1', page)
    // A server that answers with a page for missing files.
    pages.set('/team/app-1.0.0-linux-amd64.aci', '<!DOCTYPE html><html>sorry</html>')
    for (const [name, aci] of built) {
      pages.set(`/store/linux/amd64/${HOST}/team/${name}-1.0.0.aci`, readFileSync(aci))
    }
    const flags = ['--certs-dir', certs.folder]
    const pull = await world.loamAsync('pull', ...flags, `appc://${HOST}/team/app:1.0.0`)
    assert.equal(pull.status, 0, pull.stderr)
    // Simple discovery first, then the page of the name, then the one above it.
    assert.deepEqual(requests.slice(0, 3), [
      '/team/app-1.0.0-linux-amd64.aci',
      '/team/app?ac-discovery=1',
      '/team?ac-discovery=1',
    ])
    requests.length = 0
    const again = await world.loamAsync('--json', 'provision', ...flags, `appc://${HOST}/team/app:1.0.0`)
    assert.equal(again.status, 0, again.stderr)
    assert.deepEqual(requests, [])
    const { rootfs } = JSON.parse(again.stdout)
    assert.deepEqual(listTree(rootfs), listTree(join(expected, 'rootfs')))
    assert.equal(readFileSync(join(rootfs, 'shared'), 'utf8'), 'app')
    // Parts of the images below that the store has are not fetched again.
    writeAci(folder, `${HOST}/team/second`, { manifest: on('b') })
    pages.set(
      '/team/second-1.0.0-linux-amd64.aci',
      readFileSync(join(folder, `${HOST}/team/second-1.0.0-linux-amd64.aci`)),
    )
    const second = await world.loamAsync('pull', ...flags, `appc://${HOST}/team/second:1.0.0`)
    assert.equal(second.status, 0, second.stderr)
    assert.deepEqual(requests, ['/team/second-1.0.0-linux-amd64.aci'])
    // Without the CA no server is trusted, and the error has a hint.
    const untrusted = await world.loamAsync('--json', 'pull', `appc://${HOST}/team/app:2.0.0`)
    assert.equal(JSON.parse(untrusted.stderr).error.code, 'REGISTRY_TLS')
    pages.clear()
  })

  test('a discovery page may be anything: no tag, a template of other variables, another scheme, megabytes', async () => {
    using world = new World()
    const flags = ['--certs-dir', certs.folder, `appc://${HOST}/evil:1.0.0`]
    const meta = (template: string) => `<meta name="ac-discovery" content="${HOST} ${template}">`
    const bad = [
      'no html at all',
      meta(`https://${HOST}/{nonsense}/x.{ext}`),
      meta('file:///etc/{name}.{ext}'),
      meta(`ftp://${HOST}/{name}.{ext}`),
      '<meta name="ac-discovery" content="">',
      `<script>"${meta(`https://${HOST}/script.{ext}`)}"</script>`,
      Buffer.alloc(3 << 20, '<meta '),
      '<meta '.repeat(100_000),
    ]
    for (const page of bad) {
      pages.set('/evil?ac-discovery=1', page)
      requests.length = 0
      const { status, stderr } = await world.loamAsync('--json', 'pull', ...flags)
      assert.equal(status, 1)
      assert.match(JSON.parse(stderr).error.code, /IMAGE_NOT_FOUND|DOCUMENT_TOO_LARGE/)
      assert.deepEqual(
        requests.filter((url) => url.includes('script')),
        [],
      )
    }
    pages.clear()
  })

  test('discovery uses plain http only where it is allowed', async () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    writeAci(folder, `${HOST}/plain`, { entries: [{ name: 'file', data: 'x' }] })
    const bytes = readFileSync(join(folder, `${HOST}/plain-1.0.0-linux-amd64.aci`))
    const plain: string[] = []
    const http = createHttpServer((request, response) => {
      plain.push(request.url ?? '')
      const isPage = request.url === '/plain?ac-discovery=1'
      if (isPage)
        response.end(
          `<meta name="ac-discovery" content="${HOST} http://${HOST}/files/{name}-{version}.{ext}">`,
        )
      else if (
        request.url === `/files/${HOST}/plain-1.0.0.aci` ||
        request.url === '/plain-1.0.0-linux-amd64.aci'
      )
        response.end(bytes)
      else response.writeHead(404).end()
    })
    await listen(http, HOST, 80)
    try {
      const image = `appc://${HOST}/plain:1.0.0`
      const refused = await world.loamAsync('pull', '--certs-dir', certs.folder, image)
      assert.equal(refused.status, 1)
      assert.deepEqual(plain, [])
      const allowed = await world.loamAsync('pull', '--certs-dir', certs.folder, '--insecure', HOST, image)
      assert.equal(allowed.status, 0, allowed.stderr)
      assert.deepEqual(plain, ['/plain?ac-discovery=1', `/files/${HOST}/plain-1.0.0.aci`])
      const prefixed = await world.loamAsync('pull', '--appc_simple_discovery_uri_prefix=http://', image)
      assert.equal(prefixed.status, 0, prefixed.stderr)
    } finally {
      http.closeAllConnections()
      http.close()
    }
  })

  test('a directory of ACIs gives the highest version for the latest, and labels have to fit', () => {
    using world = new World()
    const folder = join(world.folder, 'images')
    for (const version of ['1.2.0', '1.10.0', '1.9.0'])
      writeAci(folder, 'example.com/app', { version, entries: [{ name: version, data: '' }] })
    const prefix = `--appc_simple_discovery_uri_prefix=file://${folder}`
    assert.deepEqual(readdirSync(provision(world, 'appc://example.com/app', prefix).rootfs), ['1.10.0'])
    assert.deepEqual(readdirSync(provision(world, 'appc://example.com/app:1.9.0', prefix).rootfs), ['1.9.0'])
    // The store has it under its own labels now, and asks no location for it.
    assert.deepEqual(readdirSync(provision(world, 'appc://example.com/app,version=1.10.0').rootfs), [
      '1.10.0',
    ])
    const odd = world.loam('--json', 'pull', prefix, 'appc://example.com/app,version=1.9.0,channel=beta')
    assert.equal(JSON.parse(odd.stderr).error.code, 'SOURCE_INVALID')
    const bare = world.loam('pull', '--image-type', 'appc', prefix, 'example.com/app:1.2.0')
    assert.equal(bare.status, 0, bare.stderr)
    const put = world.loam(
      'put',
      '--image-type',
      'appc',
      join(folder, 'example.com/app-1.2.0-linux-amd64.aci'),
      'example.org/mine:7',
    )
    assert.equal(put.status, 0, put.stderr)
    assert.deepEqual(readdirSync(provision(world, 'appc://example.org/mine:7').rootfs), ['1.2.0'])
    assert.equal(world.loam('rmi', '--image-type', 'appc', 'example.org/mine:7').status, 0)
    for (const bad of [
      'appc://UPPER',
      'appc://x,name=y',
      'appc://x,a=1,a=2',
      'appc://x,version=',
      'appc://x,version=a/b',
      'appc://x,id=sha512-12',
      'appc://',
    ])
      assert.equal(world.loam('pull', prefix, bad).status, 2, bad)
  })
})

describe('signatures', () => {
  test('with a keyring an ACI without a signature by one of its keys is refused', () => {
    using world = new World()
    const home = join(world.folder, 'gnupg')
    mkdirSync(home, { mode: 0o700 })
    const gpg = (...args: string[]) =>
      must(
        'gpg',
        '--homedir',
        home,
        '--batch',
        '--quiet',
        '--pinentry-mode',
        'loopback',
        '--passphrase',
        '',
        ...args,
      )
    gpg('--quick-generate-key', 'good@example.com', 'default', 'default', 'never')
    gpg('--quick-generate-key', 'other@example.com', 'default', 'default', 'never')
    const keyring = join(world.folder, 'keys.gpg')
    const armored = join(world.folder, 'keys.asc')
    gpg('--output', keyring, '--export', 'good@example.com')
    gpg('--output', armored, '--armor', '--export', 'good@example.com')
    const folder = join(world.folder, 'images')
    writeAci(folder, 'example.com/app', { entries: [{ name: 'file', data: 'x' }] })
    const aci = join(folder, 'example.com/app-1.0.0-linux-amd64.aci')
    const sign = (key: string) => {
      rmSync(`${aci}.asc`, { force: true })
      gpg('--local-user', key, '--armor', '--output', `${aci}.asc`, '--detach-sign', aci)
    }
    const flags = ['--appc_simple_discovery_uri_prefix', folder, '--appc_keyring', keyring]
    const image = 'appc://example.com/app:1.0.0'
    for (const unsigned of [image, `aci:${aci}`]) {
      const { code, message } = failureOf(world, ...flags, 'pull', unsigned)
      assert.deepEqual([code, /it is not signed/.test(message)], ['SIGNATURE_INVALID', true])
    }
    sign('other@example.com')
    assert.equal(failureOf(world, ...flags, 'pull', image).code, 'SIGNATURE_INVALID')
    assert.equal(failureOf(world, ...flags, 'pull', `aci:${aci}`).code, 'SIGNATURE_INVALID')
    writeFileSync(`${aci}.asc`, 'no signature')
    assert.equal(failureOf(world, ...flags, 'pull', image).code, 'SIGNATURE_INVALID')
    sign('good@example.com')
    for (const keys of [keyring, armored]) {
      const pulled = world.loam(
        'pull',
        '--appc_simple_discovery_uri_prefix',
        folder,
        '--appc_keyring',
        keys,
        image,
      )
      assert.equal(pulled.status, 0, pulled.stderr)
    }
    const bytes = readFileSync(aci)
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 9) ^ 1, bytes.length - 9)
    writeFileSync(aci, bytes)
    const changed = world.loam('--json', 'pull', ...flags, image)
    assert.equal(JSON.parse(changed.stderr).error.code, 'SIGNATURE_INVALID')
  })
})

function isValid(aci: Buffer): boolean {
  // The first entry, behind its header.
  const [text = ''] = /\{.*?(?=\0)/s.exec(gunzipSync(aci).toString('utf8')) ?? []
  try {
    parseAppcManifest(Buffer.from(text), 'manifest')
    return true
  } catch (error) {
    assert.ok(isLoamError(error, 'DOCUMENT_INVALID'))
    return false
  }
}

describe('the manifest', () => {
  test('an Appc manifest that only Mesos accepts is accepted with a note about the specification', () => {
    using world = new World()
    const path = join(world.folder, 'm.aci')
    const manifest = {
      ...manifestOf('foo.com/bar'),
      annotations: appcLabels({ created: '1438983392' }),
      app: { exec: ['/x'] },
    }
    writeFileSync(path, buildAci({ entries: [], manifest }).bytes)
    const pulled = world.loam('pull', `aci:${path}`)
    assert.equal(pulled.status, 0, pulled.stderr)
    assert.match(pulled.stderr, /m\.aci: .*violates the specification; accepted, as Mesos does/)
    // The converted image works everywhere: its config has no invalid date.
    const { config } = JSON.parse(world.loam('--json', 'inspect', `aci:${path}`).stdout)
    assert.deepEqual([config.created, config.config.User], [undefined, ''])
  })

  test('an Appc manifest is valid when actool says so', () => {
    using world = new World()
    const app = { exec: ['/x'], user: '0', group: '0' }
    const withApp = (rest: Record<string, unknown>) => ({ app: { ...app, ...rest } })
    const cases: readonly Record<string, unknown>[] = [
      {},
      { acKind: 'PodManifest' },
      { acKind: undefined },
      { acVersion: undefined },
      { acVersion: '1' },
      { acVersion: '0.0.0' },
      { acVersion: '0.8.11+git' },
      { name: '' },
      { name: 'UPPER' },
      { name: 'a b' },
      { name: '-a' },
      { name: 'a/' },
      { name: 'a' },
      { name: 'a_b~c.d/e' },
      { name: 5 },
      { labels: null },
      {
        labels: [
          { name: 'x', value: '1' },
          { name: 'x', value: '2' },
        ],
      },
      { labels: [{ name: 'name', value: 'x' }] },
      { labels: appcLabels({ os: 'plan9' }) },
      { labels: appcLabels({ os: 'linux', arch: 'sparc' }) },
      { labels: appcLabels({ arch: 'sparc' }) },
      { labels: appcLabels({ os: 'linux', arch: 'aarch64' }) },
      { labels: 'x' },
      { annotations: appcLabels({ created: 'yesterday' }) },
      { annotations: appcLabels({ created: '2020-01-02T03:04:05Z' }) },
      { annotations: appcLabels({ homepage: 'ftp://x' }) },
      { annotations: appcLabels({ documentation: 'https://x' }) },
      { app },
      { app: { ...app, exec: null } },
      { app: { exec: ['/x'], user: '0' } },
      { app: { exec: ['/x'], group: '0' } },
      { app: null },
      { app: [] },
      withApp({ workingDirectory: 'x' }),
      withApp({ workingDirectory: '/x' }),
      withApp({ environment: [{ name: '1A', value: '' }] }),
      withApp({
        environment: [
          { name: 'A', value: '' },
          { name: 'A', value: '' },
        ],
      }),
      withApp({ environment: [{ name: 'A.b-c', value: 'x=y' }] }),
      withApp({ eventHandlers: [{ name: 'pre-start', exec: ['/x'] }] }),
      withApp({ eventHandlers: [{ name: 'later', exec: ['/x'] }] }),
      withApp({ ports: [{ name: 'http', protocol: 'tcp', port: 80 }] }),
      withApp({ ports: [{ name: 'http', protocol: 'tcp', port: 0 }] }),
      withApp({ ports: [{ name: 'HTTP', protocol: 'tcp', port: 80 }] }),
      withApp({ ports: [{ name: 'http', protocol: 'tcp', port: 65_535, count: 2 }] }),
      withApp({ mountPoints: [{ name: 'data', path: '/data' }] }),
      withApp({ mountPoints: [{ name: 'Data', path: '/data' }] }),
      withApp({ isolators: [{ name: 'resource/cpu', value: { limit: '1' } }] }),
      { dependencies: [{ imageName: 'a/b' }] },
      { dependencies: [{ imageName: '' }] },
      { dependencies: [{ imageName: 'a', imageID: 'md5-1' }] },
      { dependencies: [{ imageName: 'a', imageID: `sha512-${'0'.repeat(128)}` }] },
      { dependencies: [{}] },
      { dependencies: [{ imageName: 'a', labels: appcLabels({ name: 'x' }) }] },
      { dependencies: [{ imageName: 'a', size: -1 }] },
      { pathWhitelist: ['/x'] },
      { pathWhitelist: 'x' },
      { unknown: { field: true } },
    ]
    const path = join(world.folder, 'm.aci')
    let accepted = 0
    for (const manifest of cases) {
      const { bytes } = buildAci({ manifest: { name: 'example.com/x', ...manifest }, entries: [] })
      writeFileSync(path, bytes)
      const theirs = spawnSync('actool', ['validate', path], { encoding: 'utf8' })
      const isTaken = isValid(bytes)
      assert.equal(isTaken, theirs.status === 0, `${JSON.stringify(manifest)}: ${theirs.stderr}`)
      if (isTaken) accepted += 1
    }
    assert.ok(accepted > 20 && accepted < cases.length - 20)
  })
})
