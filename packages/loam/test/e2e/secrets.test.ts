// No secret appears in output, errors, logs, the database, or any file of the store.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { buildAci, buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { Client } from '../../../loamd/test/support/client.ts'
import { DaemonWorld } from '../../../loamd/test/support/world.ts'
import { type CommandResult, World } from '../support/world.ts'

/** Each of them may be sent to its own server, and appear nowhere else. */
const PLANTED = {
  password: 'planted-password-1a2b',
  identityToken: 'planted-identity-2b3c',
  bearer: 'planted-bearer-3c4d',
  header: 'planted-header-4d5e',
  signature: 'planted-signature-5e6f',
  proxy: 'planted-proxy-6f7a',
  userInfo: 'planted-userinfo-7a8b',
  request: 'planted-request-8b9c',
}
const BASIC = Buffer.from(`alice:${PLANTED.password}`).toString('base64')
const WORDS = [...Object.values(PLANTED), BASIC]

function findPlanted(text: string): string | undefined {
  return WORDS.find((word) => text.includes(word))
}

function checkFiles(folder: string): void {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    assert.equal(findPlanted(readFileSync(path, 'latin1')), undefined, path)
  }
}

/** A registry that requires tokens, redirects to a storage with a signature in its address, and repeats in its errors everything that it received. */
class TalkativeRegistry implements AsyncDisposable {
  readonly #registry: RegistryServer
  readonly #front = createServer((request, response) => {
    this.#answer(request, response)
  })
  /** Received secrets, which show that they were used. */
  readonly heard: string[] = []
  /** Path of requests that fail with all secrets in the error. */
  failing: RegExp | undefined

  private constructor(registry: RegistryServer) {
    this.#registry = registry
  }

  static async start(): Promise<TalkativeRegistry> {
    const registry = await RegistryServer.start()
    const talkative = new TalkativeRegistry(registry)
    const { promise, resolve } = Promise.withResolvers<void>()
    talkative.#front.listen(0, '127.0.0.1', resolve)
    await promise
    registry.addImage('app', '1', buildImage({ tars: [buildTar([{ name: 'x', data: 'x' }])] }))
    return talkative
  }

  get host(): string {
    return `127.0.0.1:${(this.#front.address() as AddressInfo).port}`
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? ''
    const all = `${path} ${JSON.stringify(request.headers)}`
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      this.heard.push(`${all} ${body}`)
      const say = (status: number, words: string) => {
        response.writeHead(status, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ errors: [{ code: 'DENIED', message: words }] }))
      }
      if (this.failing?.test(path) === true) say(403, `${body} ${request.headers.authorization ?? ''} ${all}`)
      else if (path.startsWith('/token')) response.end(JSON.stringify({ token: PLANTED.bearer }))
      else if (request.headers.authorization !== `Bearer ${PLANTED.bearer}` && path.startsWith('/v2/')) {
        response.setHeader('www-authenticate', `Bearer realm="http://${this.host}/token",service="x"`)
        say(401, all)
      } else if (path.includes('/blobs/') && !path.includes('sig=')) {
        response.writeHead(307, {
          location: `http://${this.host}/storage${path}?sig=${PLANTED.signature}`,
        })
        response.end()
      } else {
        request.url = path.replace(/^\/storage/, '').replace(/\?.*/, '')
        this.#registry.answer(request, response)
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#front.closeAllConnections()
    this.#front.close()
    await this.#registry[Symbol.asyncDispose]()
  }
}

function writeAuth(keys: World, name: string, auth: Record<string, Record<string, string>>): string {
  const path = join(keys.folder, `${name}.json`)
  writeFileSync(path, JSON.stringify({ auths: auth }))
  return path
}

describe('secrets', () => {
  test('secrets are in no output, no error, no database and no file of the store', async () => {
    using world = new World()
    // Files in which the planted secrets may be.
    using keys = new World()
    await using registry = await TalkativeRegistry.start()
    const { host } = registry
    const image = `${host}/app:1`
    const results: CommandResult[] = []
    const run = async (expected: number, ...args: readonly string[]) => {
      const result = await world.loamAsync(...args)
      results.push(result)
      assert.equal(result.status, expected, `${args.join(' ')}: ${result.stderr.slice(0, 500)}`)
    }
    const byPassword = writeAuth(keys, 'password', { [host]: { auth: BASIC } })
    const byToken = writeAuth(keys, 'token', { [host]: { identitytoken: PLANTED.identityToken } })
    const certs = join(keys.folder, 'certs')
    mkdirSync(join(certs, host), { recursive: true })
    writeFileSync(
      join(certs, host, 'hosts.toml'),
      `server = "http://${host}"\n[header]\nx-registry-key = ["${PLANTED.header}"]\n`,
    )
    const inline = JSON.stringify({ auths: { [host]: { password: PLANTED.request, username: 'bob' } } })
    const access = ['--authfile', byPassword, '--certs-dir', certs]
    // Operations that succeed.
    await run(0, '--json', 'pull', ...access, image)
    await run(0, '--json', 'provision', '--id', 'a', ...access, image)
    await run(0, '--json', 'inspect', image)
    for (const verb of ['images', 'ps', 'df', 'fsck', 'doctor', 'recover']) await run(0, '--json', verb)
    await run(0, '--json', 'config', `--docker-config=${inline}`)
    await run(0, 'config', `--docker-config=${inline}`)
    await run(0, 'destroy', 'a')
    await run(0, 'rmi', image)
    await run(0, 'prune')
    // Operations that fail, at each step, with errors that repeat everything.
    for (const failing of [/manifests/, /token/, /storage/, /uploads/]) {
      registry.failing = failing
      if (failing.source !== 'uploads') {
        await run(1, '--json', 'pull', ...access, image)
        await run(1, 'pull', '--authfile', byToken, image)
        await run(1, '--json', 'pull', `--docker-config=${inline}`, image)
      }
    }
    registry.failing = undefined
    // Addresses with passwords, and with signatures.
    await run(1, '--json', 'pull', `aci:http://bob:${PLANTED.userInfo}@${host}/x.aci`)
    await run(1, '--json', 'put', `http://bob:${PLANTED.userInfo}@${host}/x.aci`, 'example.com/x')
    await run(1, '--json', 'pull', `aci:http://${host}/x.aci?sig=${PLANTED.signature}`)
    await run(2, '--json', 'config', `--docker_registry=https://bob:${PLANTED.userInfo}@${host}`)
    for (const [index, { stdout, stderr }] of results.entries())
      assert.equal(findPlanted(stdout + stderr), undefined, `${index}: ${stdout}${stderr}`)
    checkFiles(world.folder)
    // They were used for their own servers.
    const heard = registry.heard.join('\n')
    for (const word of [BASIC, PLANTED.bearer, PLANTED.header, PLANTED.signature, PLANTED.identityToken])
      assert.ok(heard.includes(word), `${word} was never sent`)
  })

  test('secrets in addresses are not kept with the image, and proxies are reported without their passwords', async () => {
    using world = new World()
    const { bytes: aci } = buildAci({
      manifest: { name: 'example.com/x' },
      entries: [{ name: 'x', data: 'x' }],
    })
    const server = createServer((_request, response) => response.end(aci))
    const { promise, resolve } = Promise.withResolvers<void>()
    server.listen(0, '127.0.0.1', resolve)
    await promise
    try {
      const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
      const address = `aci:http://${host}/x.aci?sig=${PLANTED.signature}`
      const pulled = await world.loamAsync('pull', '--insecure', host, address)
      assert.equal(pulled.status, 0, pulled.stderr)
      const listed = await world.loamAsync('--json', 'images')
      assert.match(listed.stdout, /x\.aci"/)
      assert.equal(findPlanted(pulled.stdout + pulled.stderr + listed.stdout), undefined)
      checkFiles(world.folder)
    } finally {
      server.closeAllConnections()
      server.close()
    }
    const proxied = world.loamProcess(
      { env: { HTTPS_PROXY: `http://bob:${PLANTED.proxy}@127.0.0.1:1`, LOAM_REGISTRY_TRIES: '1' } },
      '--json',
      'pull',
      'registry.test/x:1',
    )
    assert.equal(proxied.status, 1)
    assert.equal(findPlanted(proxied.stdout + proxied.stderr), undefined, proxied.stderr)
  })

  test('secrets are not in the log of the daemon, nor in its answers', async () => {
    await using daemon = new DaemonWorld()
    await using registry = await TalkativeRegistry.start()
    const { host } = registry
    const config = daemon.path('loam.toml')
    const inline = JSON.stringify({ auths: { [host]: { auth: BASIC } } })
    writeFileSync(config, `docker_config = '${inline}'\n`)
    await daemon.startDaemon('--config', config, '--log-level', 'debug')
    const client = new Client(daemon.socket)
    for (const failing of [/manifests/, /token/, /storage/]) {
      registry.failing = failing
      // Left to the client, which then has a folder to unpack into; the log has the reason.
      await client.prepare(`key-${failing.source}`, '', {
        'containerd.io/snapshot.ref': `sha256:${'a'.repeat(64)}`,
        'containerd.io/snapshot/cri.image-ref': `${host}/app:1`,
        'containerd.io/snapshot/cri.layer-digest': `sha256:${'b'.repeat(64)}`,
      })
    }
    client.close()
    await daemon.stop('loamd')
    const log = readFileSync(daemon.log('loamd'), 'utf8')
    assert.match(log, /left a layer to containerd/)
    assert.match(log, /DENIED/)
    assert.equal(findPlanted(log), undefined, log)
    checkFiles(daemon.root)
    assert.ok(registry.heard.join('\n').includes(BASIC))
  })
})
