// The page in a real browser (Debian's chromium): a daemon and a registry in this process, and images of it.
import { randomBytes } from 'node:crypto'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { type BuildEntry, buildImage, buildTar, type BuiltImage, RegistryServer } from 'loamfs/testing'
import { launchBrowser } from './browser.ts'
import { HttpWorld } from './http-world.ts'

/** A file of a given size; its bytes are random, so that compression does not shrink it. */
export function file(name: string, kib: number): BuildEntry {
  return { name, data: randomBytes(kib << 10) }
}

/** The actions and the view of a user. */
export class PageWorld implements AsyncDisposable {
  readonly daemon: HttpWorld
  readonly registry: RegistryServer
  readonly #browser: Browser
  readonly #open: AsyncDisposableStack

  private constructor(
    open: AsyncDisposableStack,
    daemon: HttpWorld,
    registry: RegistryServer,
    browser: Browser,
  ) {
    this.#open = open
    this.daemon = daemon
    this.registry = registry
    this.#browser = browser
  }

  /** `flags`: settings of the daemon. */
  static async start(flags: Readonly<Record<string, string>> = {}): Promise<PageWorld> {
    await using open = new AsyncDisposableStack()
    const registry = open.use(await RegistryServer.start())
    const daemon = open.use(await HttpWorld.start(flags))
    open.defer(async () => destroyContainers(daemon))
    const browser = await launchBrowser()
    open.defer(async () => browser.close())
    return new PageWorld(open.move(), daemon, registry, browser)
  }

  /** Serves an image, and returns its name. */
  serve(repository: string, tag: string, image: BuiltImage): string {
    this.registry.addImage(repository, tag, image)
    return `${this.registry.host}/${repository}:${tag}`
  }

  /** Pulls an image. */
  async pull(name: string): Promise<void> {
    await this.ask('POST', '/v1/images/pull', { image: name, insecure: [this.registry.host] })
  }

  /** Calls the daemon by its socket, and fails for an error. */
  async ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.daemon.send(method, path, body)
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`)
    return answer.body
  }

  /** Returns the address of the page, with the token. */
  async address(): Promise<string> {
    const { address } = (await this.ask('POST', '/v1/ui', {})) as { address: string }
    return address
  }

  /** Opens the page in a browser of its own. Errors in the page are written to standard error. */
  async open(options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
    const page = await context.newPage()
    page.on('pageerror', (error) => {
      process.stderr.write(`page: ${error.message}\n`)
    })
    await page.goto(await this.address())
    await page.getByRole('heading', { level: 1 }).waitFor()
    return page
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]()
  }
}

/** A mount keeps the daemon's directory from being removed. */
async function destroyContainers(daemon: HttpWorld): Promise<void> {
  const { body } = await daemon.send('GET', '/v1/containers')
  for (const { id } of body as { id: string }[])
    await daemon.send('DELETE', `/v1/containers?id=${encodeURIComponent(id)}`)
}

const base = buildTar([
  file('usr/lib/x86_64-linux-gnu/libc.so.6', 1900),
  file('usr/lib/x86_64-linux-gnu/libcrypto.so.3', 4600),
  file('usr/lib/locale/C.utf8/LC_CTYPE', 350),
  file('usr/bin/bash', 1250),
  file('usr/bin/perl', 3700),
  file('usr/share/doc/base-files/README', 6),
  file('var/cache/apt/archives/big.deb', 5200),
  file('var/lib/dpkg/status', 90),
  { name: 'bin', type: 'symlink', linkName: 'usr/bin' },
  { name: 'etc/os-release', data: 'NAME=demo\n' },
])
const runtime = buildTar([
  { name: 'var/cache/apt/archives/.wh.big.deb' },
  file('usr/bin/python3.13', 6600),
  file('usr/lib/python3.13/lib.zip', 9400),
  file('var/lib/dpkg/status', 98),
])

/** Three images: two share a base and a runtime, one shares nothing. */
export const SAMPLES: Readonly<Record<string, BuiltImage>> = {
  'team/web': buildImage({
    tars: [base, runtime, buildTar([file('srv/app/main.js', 2400), file('srv/app/assets/hero.webp', 3100)])],
    config: {
      Entrypoint: ['/usr/bin/python3', '-m', 'app'],
      Cmd: ['--port', '8080'],
      Env: ['PATH=/usr/bin', 'APP_MODE=production'],
      User: 'www',
      WorkingDir: '/srv/app',
      ExposedPorts: { '8080/tcp': {} },
    },
    withHistory: true,
  }),
  'team/worker': buildImage({
    tars: [base, runtime, buildTar([file('srv/worker/model.bin', 14_000), file('srv/worker/run.py', 30)])],
    withHistory: true,
  }),
  'tools/curl': buildImage({
    tars: [buildTar([file('bin/curl', 4200), file('etc/ssl/certs/ca-certificates.crt', 210)])],
  }),
}
