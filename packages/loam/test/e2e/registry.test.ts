// Debian's docker-registry on loopback: plain, with htpasswd over TLS, and with a token server of the tests.
import assert from 'node:assert/strict'
import { createPrivateKey, createSign, randomBytes, randomUUID } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type BuiltImage, buildImage, buildTar } from '../../src/testing/index.ts'
import { DebianRegistry, layoutOf, listen, must, World, createCertificates } from '../support/world.ts'

function sampleImage(seed = 'x'): BuiltImage {
  return buildImage({
    tars: [
      buildTar([
        { name: 'hello', data: `hello ${seed}` },
        { name: 'big', data: Buffer.alloc(300_000, seed) },
      ]),
    ],
    config: { Cmd: ['/hello'] },
  })
}

test('every command that may fetch has the same flags for registries', () => {
  using world = new World()
  const fetching = [
    'pull',
    'put',
    'push',
    'provision',
    'volume',
    'run',
    'export',
    'snapshot commit',
    'fsck',
    'recover',
  ]
  for (const command of fetching) {
    const { stdout } = world.loam(...command.split(' '), '--help')
    for (const flag of ['--authfile', '--insecure', '--certs-dir'])
      assert.ok(stdout.includes(flag), `${command} ${flag}`)
  }
})

describe('docker-registry', () => {
  test('docker-registry serves an image over plain http on loopback, by tag and by digest', async () => {
    using world = new World()
    using registry = await DebianRegistry.start()
    const image = sampleImage()
    must(
      'skopeo',
      'copy',
      '-q',
      '--dest-tls-verify=false',
      layoutOf(world, image),
      `docker://${registry.host}/team/app:1`,
    )
    const pulled = world.loam('pull', `${registry.host}/team/app:1`)
    assert.equal(pulled.status, 0, pulled.stderr)
    assert.equal(pulled.stdout.trim(), image.manifest.digest)
    const provisioned = world.loam(
      'provision',
      '--id',
      'c',
      `${registry.host}/team/app@${image.manifest.digest}`,
    )
    assert.equal(provisioned.status, 0, provisioned.stderr)
    assert.equal(readFileSync(join(provisioned.stdout.trim(), 'hello'), 'utf8'), 'hello x')
    const missing = world.loam('--json', 'pull', `${registry.host}/team/app:2`)
    assert.equal(missing.status, 1)
    assert.equal(JSON.parse(missing.stderr).error.code, 'IMAGE_NOT_FOUND')
  })

  test('docker-registry is pulled from through a connection that is cut ten times', async () => {
    using world = new World()
    using registry = await DebianRegistry.start()
    const tars = [buildTar([{ name: 'noise', data: randomBytes(3_000_000) }])]
    const image = buildImage({ tars })
    const source = layoutOf(world, image)
    must('skopeo', 'copy', '-q', '--dest-tls-verify=false', source, `docker://${registry.host}/app:1`)
    let cuts = 0
    const line = createTcpServer((client) => {
      const upstream = connect(registry.port, '127.0.0.1')
      let bytes = 0
      client.pipe(upstream)
      upstream.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > 200_000 && cuts < 10) {
          cuts += 1
          client.destroy()
          upstream.destroy()
        } else {
          client.write(chunk)
        }
      })
      upstream.on('close', () => client.destroy())
      client.on('close', () => upstream.destroy())
      for (const socket of [client, upstream]) socket.on('error', () => undefined)
    })
    const linePort = await listen(line)
    try {
      const pulled = await world.loamAsync('pull', `127.0.0.1:${linePort}/app:1`)
      assert.equal(pulled.status, 0, pulled.stderr)
      assert.equal(pulled.stdout.trim(), image.manifest.digest)
      assert.equal(cuts, 10)
      const kept = readFileSync(join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar'))
      assert.ok(kept.equals(tars[0] ?? Buffer.alloc(0)))
    } finally {
      line.close()
    }
  })

  test('docker-registry asks for a password over TLS with an own CA', async () => {
    using world = new World()
    const certs = mkdtempSync(join(tmpdir(), 'loam-certs-'))
    try {
      createCertificates(certs)
      writeFileSync(join(certs, 'htpasswd'), must('htpasswd', '-Bbn', 'alice', 'se:cret'))
      using registry = await DebianRegistry.start({
        http: { tls: { certificate: join(certs, 'server.crt'), key: join(certs, 'server.key') } },
        rest: { auth: { htpasswd: { realm: 'test', path: join(certs, 'htpasswd') } } },
      })
      const reference = `${registry.host}/app:1`
      const image = sampleImage('tls')
      must(
        'skopeo',
        'copy',
        '-q',
        '--dest-tls-verify=false',
        '--dest-creds',
        'alice:se:cret',
        layoutOf(world, image),
        `docker://${reference}`,
      )

      const untrusted = world.loam('--json', 'pull', reference)
      assert.equal(JSON.parse(untrusted.stderr).error.code, 'REGISTRY_TLS')

      const certsDir = join(world.folder, 'certs.d')
      mkdirSync(join(certsDir, registry.host), { recursive: true })
      copyFileSync(join(certs, 'ca.crt'), join(certsDir, registry.host, 'ca.crt'))
      const env = { HOME: world.folder, DOCKER_CONFIG: '' }
      const anonymous = world.loamWith(env, '--json', 'pull', '--certs-dir', certsDir, reference)
      assert.equal(JSON.parse(anonymous.stderr).error.code, 'REGISTRY_UNAUTHORIZED')
      assert.ok(!anonymous.stderr.includes('se:cret'))

      const authfile = join(world.folder, 'auth.json')
      writeFileSync(
        authfile,
        JSON.stringify({
          auths: { [registry.host]: { auth: Buffer.from('alice:se:cret').toString('base64') } },
        }),
      )
      const pulled = world.loam('pull', '--certs-dir', certsDir, '--authfile', authfile, reference)
      assert.equal(pulled.status, 0, pulled.stderr)
      assert.equal(pulled.stdout.trim(), image.manifest.digest)

      const insecure = world.loam('pull', '--insecure', registry.host, '--authfile', authfile, reference)
      assert.equal(insecure.status, 0, insecure.stderr)

      // A repair of the store fetches, too.
      const access = ['--certs-dir', certsDir, '--authfile', authfile]
      const provisioned = world.loam('provision', '--id', 'c', ...access, reference)
      assert.equal(provisioned.status, 0, provisioned.stderr)
      const rootfs = provisioned.stdout.trim()
      const tar = join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar')
      writeFileSync(tar, 'broken')
      assert.equal(world.loamWith(env, 'fsck', '--repair').status, 1)
      const repaired = world.loamWith(env, 'fsck', '--repair', ...access)
      assert.equal(repaired.status, 0, repaired.stdout)
      for (const path of world.mounts().toReversed()) must('umount', '-l', path)
      rmSync(tar)
      assert.equal(world.loamWith(env, 'recover').status, 1)
      const recovered = world.loamWith(env, 'recover', ...access)
      assert.equal(recovered.status, 0, recovered.stdout + recovered.stderr)
      assert.equal(readFileSync(join(rootfs, 'hello'), 'utf8'), 'hello tls')
      assert.equal(world.loam('destroy', 'c').status, 0)
    } finally {
      rmSync(certs, { recursive: true })
    }
  })

  test('docker-registry gets a client certificate if it requests one', async () => {
    using world = new World()
    const certs = mkdtempSync(join(tmpdir(), 'loam-certs-'))
    try {
      createCertificates(certs)
      using registry = await DebianRegistry.start({
        http: {
          tls: {
            certificate: join(certs, 'server.crt'),
            key: join(certs, 'server.key'),
            clientcas: [join(certs, 'ca.crt')],
          },
        },
      })
      const certsDir = join(world.folder, 'certs.d')
      const own = join(certsDir, registry.host)
      mkdirSync(own, { recursive: true })
      copyFileSync(join(certs, 'ca.crt'), join(own, 'ca.crt'))
      const without = world.loam('--json', 'pull', '--certs-dir', certsDir, `${registry.host}/app:1`)
      assert.equal(without.status, 1)
      copyFileSync(join(certs, 'server.crt'), join(own, 'client.cert'))
      copyFileSync(join(certs, 'server.key'), join(own, 'client.key'))
      const image = sampleImage('mtls')
      const source = layoutOf(world, image)
      must('skopeo', 'copy', '-q', '--dest-cert-dir', own, source, `docker://${registry.host}/app:1`)
      const pulled = world.loam('pull', '--certs-dir', certsDir, `${registry.host}/app:1`)
      assert.equal(pulled.status, 0, pulled.stderr)
      assert.equal(pulled.stdout.trim(), image.manifest.digest)
    } finally {
      rmSync(certs, { recursive: true })
    }
  })

  test('docker-registry accepts tokens of a token server', async () => {
    using world = new World()
    const certs = mkdtempSync(join(tmpdir(), 'loam-certs-'))
    const authorizations: (string | undefined)[] = []
    const server = createServer((request, response) => {
      authorizations.push(request.headers.authorization)
      const url = new URL(request.url ?? '/', 'http://localhost')
      const token = signToken(
        certs,
        url.searchParams.get('service') ?? '',
        url.searchParams.get('scope') ?? '',
      )
      response.end(JSON.stringify({ access_token: token, expires_in: 1 }))
    })
    try {
      createCertificates(certs)
      const tokenPort = await listen(server)
      const auth = {
        token: {
          realm: `http://127.0.0.1:${tokenPort}/token`,
          service: 'loam-test',
          issuer: 'tests',
          rootcertbundle: join(certs, 'server.crt'),
        },
      }
      using registry = await DebianRegistry.start({ rest: { auth } })
      const image = sampleImage('token')
      const push = `${registry.host}/team/app:1`
      // Not spawnSync: the token server runs in this process.
      const copied = await run(
        'skopeo',
        'copy',
        '-q',
        '--dest-tls-verify=false',
        '--dest-creds',
        'bob:pw',
        layoutOf(world, image),
        `docker://${push}`,
      )
      assert.equal(copied, 0)
      authorizations.length = 0
      const authfile = join(world.folder, 'auth.json')
      writeFileSync(
        authfile,
        JSON.stringify({ auths: { [registry.host]: { username: 'bob', password: 'pw' } } }),
      )
      const pulled = await world.loamAsync('pull', '--authfile', authfile, push)
      assert.equal(pulled.status, 0, pulled.stderr)
      assert.equal(pulled.stdout.trim(), image.manifest.digest)
      assert.ok(authorizations.length >= 1)
      assert.equal(authorizations[0], `Basic ${Buffer.from('bob:pw').toString('base64')}`)
    } finally {
      server.close()
      server.closeAllConnections()
      rmSync(certs, { recursive: true })
    }
  })
})

async function run(file: string, ...args: readonly string[]): Promise<number | null> {
  const { spawn } = await import('node:child_process')
  const child = spawn(file, args, { stdio: 'inherit' })
  return new Promise((resolve) => {
    child.once('close', resolve)
  })
}

/** Creates a token by distribution's specification, signed with the server's key. */
function signToken(folder: string, service: string, scope: string): string {
  const [type, name, actions] = scope.split(':')
  const certificate = readFileSync(join(folder, 'server.crt'), 'utf8').replaceAll(/-----[A-Z ]+-----|\n/g, '')
  const header = { typ: 'JWT', alg: 'RS256', x5c: [certificate] }
  const now = Math.floor(Date.now() / 1000)
  const claims = {
    iss: 'tests',
    sub: 'bob',
    aud: service,
    exp: now + 60,
    nbf: now - 10,
    iat: now,
    jti: randomUUID(),
    access: scope === '' ? [] : [{ type, name, actions: actions?.split(',') }],
  }
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${encode(header)}.${encode(claims)}`
  const key = createPrivateKey(readFileSync(join(folder, 'server.key')))
  return `${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`
}
