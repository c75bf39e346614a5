import assert from 'node:assert/strict'
import { type IncomingHttpHeaders, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { HttpWorld } from '../../test/support/http-world.ts'

interface Asked {
  readonly path: string
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

interface Answered {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** The page of a daemon, for a client that connects to its port. */
class Page {
  readonly port: number
  readonly token: string

  constructor(address: string) {
    const { port, hash } = new URL(address)
    this.port = Number(port)
    this.token = hash.replace('#access=', '')
  }

  async ask({ path, method = 'GET', headers = {}, body }: Asked): Promise<Answered> {
    const { promise, resolve, reject } = Promise.withResolvers<Answered>()
    const asked = request({ host: '127.0.0.1', port: this.port, path, method, headers }, (response) => {
      const read = async () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: await text(response) })
      }
      read().catch(reject)
    })
    asked.on('error', reject)
    asked.end(body)
    return promise
  }

  /** Sends a request with the token. */
  async askAllowed({ headers = {}, ...asked }: Asked): Promise<Answered> {
    return this.ask({ ...asked, headers: { authorization: `Bearer ${this.token}`, ...headers } })
  }
}

async function openPage(world: HttpWorld): Promise<Page> {
  const { body } = await world.send('POST', '/v1/ui', {})
  return new Page((body as { address: string }).address)
}

test('the page is served only on request, at one address, until it is closed or the daemon ends', async () => {
  const world = await HttpWorld.start()
  let page: Page | undefined
  try {
    assert.deepEqual((await world.send('DELETE', '/v1/ui')).body, { closed: false })
    const [one, other] = await Promise.all([openPage(world), openPage(world)])
    assert.deepEqual([one.port, one.token], [other.port, other.token])
    assert.equal((await one.askAllowed({ path: '/v1/images' })).status, 200)
    assert.deepEqual((await world.send('DELETE', '/v1/ui')).body, { closed: true })
    await assert.rejects(one.ask({ path: '/' }), { code: 'ECONNREFUSED' })
    page = await openPage(world)
    assert.notEqual(page.token, one.token)
    const old = { authorization: `Bearer ${one.token}` }
    assert.equal((await page.ask({ path: '/v1/images', headers: old })).status, 401)
  } finally {
    await world[Symbol.asyncDispose]()
  }
  await assert.rejects(page.ask({ path: '/' }), { code: 'ECONNREFUSED' })
})

test('another user of the machine gets nothing at the port of the page but its files', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  const guesses: readonly Readonly<Record<string, string>>[] = [
    {},
    { authorization: 'Bearer' },
    { authorization: 'Bearer x' },
    { authorization: `Bearer ${page.token.slice(1)}` },
    { authorization: `Bearer ${page.token}x` },
    { authorization: `Basic ${page.token}` },
    { cookie: `access=${page.token}` },
  ]
  for (const headers of guesses) {
    const { status, headers: answered, body } = await page.ask({ path: '/v1/images', headers })
    assert.deepEqual([status, answered['www-authenticate']], [401, 'Bearer'], JSON.stringify(headers))
    assert.equal((JSON.parse(body) as { status: number }).status, 401)
  }
  // The token counts in no query, where logs and referrers would have it.
  assert.equal((await page.ask({ path: `/v1/images?access=${page.token}` })).status, 401)
  const { body } = await page.ask({ path: '/' })
  assert.match(body, /<title>Loam<\/title>/)
  assert.ok(!body.includes(page.token))
  for (const path of ['/../package.json', '/v1', '/page/index.html', '//etc/passwd'])
    assert.equal((await page.ask({ path })).status, 404, path)
})

test('the page may call only the operations of the API that it needs', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  for (const path of ['/v1/images', '/v1/containers', '/v1/df', '/v1/doctor', '/v1/version'])
    assert.equal((await page.askAllowed({ path })).status, 200, path)
  const json = { 'content-type': 'application/json' }
  const refused: readonly (readonly [string, string])[] = [
    ['POST', '/v1/images/pull'],
    ['POST', '/v1/images/push'],
    ['POST', '/v1/containers/provision'],
    ['POST', '/v1/export'],
    ['GET', '/v1/export'],
    ['GET', '/v1/config'],
    ['POST', '/v1/fsck'],
    ['POST', '/v1/ui'],
    ['POST', '/v1/command'],
  ]
  for (const [method, path] of refused) {
    const { status } = await page.askAllowed({ method, path, headers: json, body: '{}' })
    assert.equal(status, 404, `${method} ${path}`)
  }
})

test('a site whose name leads to this machine (DNS rebinding) is refused, also with the token', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  for (const host of ['attacker.example', `attacker.example:${page.port}`, '127.0.0.1.attacker.example']) {
    const allowed = await page.askAllowed({ path: '/v1/images', headers: { host } })
    assert.equal(allowed.status, 403, host)
    assert.equal((await page.ask({ path: '/', headers: { host } })).status, 403, host)
  }
  for (const host of [`localhost:${page.port}`, 'localhost:8080', `[::1]:${page.port}`])
    assert.equal((await page.askAllowed({ path: '/v1/images', headers: { host } })).status, 200, host)
})

test('a request that names no host gets nothing at the port of the page, and is told so', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  for (const version of ['1.0', '1.1']) {
    const socket = connect(page.port, '127.0.0.1')
    socket.write(
      `GET /v1/images HTTP/${version}\r\nauthorization: Bearer ${page.token}\r\nconnection: close\r\n\r\n`,
    )
    assert.match(await text(socket), /^HTTP\/1\.1 403 [^]*"code":"USAGE"/)
  }
})

test('a request that another web site makes a browser send is refused: a form, fetch, its preflight, and a WebSocket', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  const origin = 'https://attacker.example'
  const form = {
    origin,
    'content-type': 'application/x-www-form-urlencoded',
    'sec-fetch-site': 'cross-site',
    'sec-fetch-mode': 'navigate',
  }
  assert.equal(
    (await page.ask({ method: 'POST', path: '/v1/images/prune', headers: form, body: 'all=true' })).status,
    403,
  )
  const fetched = await page.askAllowed({ path: '/v1/images', headers: { origin } })
  assert.equal(fetched.status, 403)
  assert.equal(fetched.headers['access-control-allow-origin'], undefined)
  // Another port of this machine is another site, too.
  const neighbour = { 'sec-fetch-site': 'same-site' }
  assert.equal((await page.askAllowed({ path: '/v1/images', headers: neighbour })).status, 403)
  const asks = { origin, 'access-control-request-method': 'DELETE' }
  const preflight = await page.ask({ method: 'OPTIONS', path: '/v1/images', headers: asks })
  assert.equal(preflight.status, 403)
  assert.equal(preflight.headers['access-control-allow-methods'], undefined)
  const socket = { origin, connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' }
  assert.equal((await page.ask({ path: '/v1/images', headers: socket })).status, 403)
  assert.equal((await page.ask({ method: 'POST', path: '/' })).status, 405)
})

test('each answer of the page forbids foreign code, frames, referrers and copies in caches', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  for (const path of ['/', '/page.js', '/page.css', '/icon.svg', '/none', '/v1/images']) {
    const { headers } = await page.askAllowed({ path })
    const policy = headers['content-security-policy'] ?? ''
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "frame-ancestors 'none'",
      "form-action 'none'",
    ])
      assert.ok(policy.includes(rule), `${path}: ${rule}`)
    assert.ok(!policy.includes('unsafe'))
    assert.deepEqual(
      ['x-content-type-options', 'referrer-policy', 'cache-control', 'x-frame-options'].map(
        (name) => headers[name],
      ),
      ['nosniff', 'no-referrer', 'no-store', 'DENY'],
      path,
    )
  }
  // The document loads nothing from elsewhere, and has no inline code or style.
  const { body } = await page.ask({ path: '/' })
  assert.doesNotMatch(body, /(?:src|href)="(?:https?:)?\/\/|<style|style=|<script>/)
})

test('the log of the daemon never has the token of the page', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  await page.askAllowed({ path: '/v1/images/inspect?image=none' })
  await page.ask({ path: '/v1/images' })
  await openPage(world)
  await world.send('DELETE', '/v1/ui')
  const all = world.lines.join('')
  assert.match(all, /the page is open/)
  assert.ok(!all.includes(page.token))
})

test('a client that holds all connections to the page does not affect the rest of the daemon', async () => {
  await using world = await HttpWorld.start()
  const page = await openPage(world)
  const { promise, resolve } = Promise.withResolvers<void>()
  let refused = 0
  const held: Socket[] = Array.from({ length: 200 }, () => connect(page.port, '127.0.0.1'))
  try {
    for (const socket of held) {
      socket.on('error', () => undefined)
      socket.on('close', () => {
        refused += 1
        if (refused === 200 - 64) resolve()
      })
      socket.resume()
    }
    await promise
    assert.equal((await world.send('GET', '/v1/images')).status, 200)
  } finally {
    for (const socket of held) socket.destroy()
  }
})
