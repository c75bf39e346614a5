// The site of the documents, built from this checkout and read in a real browser. PAGE_SCREENSHOTS=DIRECTORY keeps the pictures.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { findBarriers, launchBrowser, overflowOf, SCREENS, watchPage } from '../support/browser.ts'

const BUILD = fileURLToPath(new URL('../../../../scripts/site/build.ts', import.meta.url))
/** The first page, one with code, and one with tables. */
const PAGES = ['', 'tutorials/first-root-filesystem.html', 'comparison.html']
/** Of VitePress itself: the key in the button of the search is not in its name, and a group of the sidebar is a button with a button in it. */
const THEME_RULES = ['label-content-name-mismatch', 'nested-interactive']
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
}

/** A built site behind a plain file server, and a browser. */
class SiteWorld implements AsyncDisposable {
  readonly folder: string
  readonly origin: string
  readonly browser: Browser
  readonly #open: AsyncDisposableStack

  private constructor(open: AsyncDisposableStack, folder: string, origin: string, browser: Browser) {
    this.#open = open
    this.folder = folder
    this.origin = origin
    this.browser = browser
  }

  static async start(): Promise<SiteWorld> {
    await using open = new AsyncDisposableStack()
    const folder = mkdtempSync(join(tmpdir(), 'site-'))
    open.defer(() => {
      rmSync(folder, { recursive: true })
    })
    const output = join(folder, 'site')
    execFileSync(process.execPath, [BUILD, '--output', output], { stdio: 'pipe' })
    const files = new Set(globSync('**/*.*', { cwd: output }))
    const server = createServer(({ url = '' }, response) => {
      const path = decodeURIComponent(new URL(url, 'http://site').pathname.slice(1))
      const name = path === '' ? 'index.html' : path
      if (!files.has(name)) response.writeHead(404).end()
      else
        response
          .writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' })
          .end(readFileSync(join(output, name)))
    })
    server.listen(0, '127.0.0.1')
    open.defer(() => {
      server.close()
      server.closeAllConnections()
    })
    const browser = await launchBrowser()
    open.defer(async () => browser.close())
    const { port } = server.address() as AddressInfo
    return new SiteWorld(open.move(), folder, `http://127.0.0.1:${port}`, browser)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]()
  }
}

/** Returns the pictures of a page that did not load. */
async function missingPictures(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(
    `[...document.images].filter(({ complete, naturalWidth }) => !complete || naturalWidth === 0).map(({ src }) => src)`,
  )
}

describe('the site of the documents', async () => {
  const world = await SiteWorld.start()
  after(async () => world[Symbol.asyncDispose]())

  for (const [screen, options] of Object.entries(SCREENS)) {
    test(`its pages fit the screen, are accessible, and load nothing from elsewhere (${screen})`, async () => {
      const context = await world.browser.newContext(options)
      const page = await context.newPage()
      const wrong = watchPage(page, world.origin)
      const found: string[] = []
      for (const path of PAGES) {
        await page.goto(`${world.origin}/${path}`, { waitUntil: 'networkidle' })
        const name = `site-${screen}-${path.replaceAll('/', '-')}`
        await page.screenshot({
          path: join(process.env['PAGE_SCREENSHOTS'] ?? world.folder, `${name}.png`),
        })
        const wider = await overflowOf(page)
        found.push(
          ...(await findBarriers(page, THEME_RULES)).map((barrier) => `${name}: ${barrier}`),
          ...(await missingPictures(page)).map((picture) => `${name}: ${picture} is missing`),
          ...(wider === 0 ? [] : [`${name}: ${wider} pixels wider than the screen`]),
        )
      }
      assert.deepEqual([...found, ...wrong], [])
      await context.close()
    })
  }

  test('its search finds a page by its words, and its links lead there', async () => {
    const context = await world.browser.newContext()
    const page = await context.newPage()
    await page.goto(`${world.origin}/`, { waitUntil: 'networkidle' })
    await page.getByRole('button', { name: 'Search' }).first().click()
    await page.getByRole('searchbox').fill('DIGEST_INVALID')
    await page.getByRole('option').first().click()
    await page.getByRole('heading', { level: 1 }).waitFor()
    assert.match(page.url(), /\/errors\.html#digest_invalid/)
    assert.match(await page.getByRole('main').innerText(), /DIGEST_INVALID/)
    await context.close()
  })
})
