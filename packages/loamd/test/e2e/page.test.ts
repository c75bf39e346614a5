// The page as a user sees it, in a real browser. PAGE_SCREENSHOTS=DIRECTORY keeps the pictures of each view.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { buildImage, buildTar } from 'loamfs/testing'
import type { Page } from 'playwright-core'
import { someOf } from '../../../loam/test/support/rounds.ts'
import { findBarriers, overflowOf, SCREENS, watchPage } from '../support/browser.ts'
import { file, PageWorld, SAMPLES } from '../support/page-world.ts'

const world = await PageWorld.start()
after(async () => world[Symbol.asyncDispose]())
const names = Object.entries(SAMPLES).map(([repository, image]) => world.serve(repository, 'v1', image))
const [web = '', worker = ''] = names
for (const name of names) await world.pull(name)
await world.ask('POST', '/v1/containers/provision', { image: web, id: 'web', backend: 'copy' })
await world.ask('POST', '/v1/containers/provision', { image: worker, id: 'worker', backend: 'copy' })

/** Opens a view by its tab. */
async function goTo(page: Page, view: string): Promise<void> {
  await page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: view }).click()
  await page.getByRole('heading', { level: 1, name: view }).waitFor()
  await page.getByText('Loading…').first().waitFor({ state: 'hidden' })
}

async function check(page: Page, name: string): Promise<void> {
  const folder = process.env['PAGE_SCREENSHOTS'] ?? world.daemon.folder
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
  assert.deepEqual(await findBarriers(page), [], name)
  assert.equal(await overflowOf(page), 0, `pixels that ${name} is wider than the screen`)
}

for (const [screen, options] of someOf(Object.entries(SCREENS), 1)) {
  test(`each view of the page is accessible, has no error and loads nothing from elsewhere (${screen})`, async () => {
    const page = await world.open(options)
    const wrong = watchPage(page, new URL(page.url()).origin)
    const withToken: string[] = []
    page.on('request', (request) => {
      if (request.url().includes('access')) withToken.push(request.url())
    })
    await page.getByText('On disk', { exact: true }).waitFor()
    await check(page, `${screen}-storage`)
    await page.getByRole('button', { name: 'Table' }).click()
    await check(page, `${screen}-storage-table`)
    await page.getByRole('button', { name: 'Prune…' }).click()
    await page.getByText('There is nothing to remove.').waitFor()
    await check(page, `${screen}-prune`)
    await page.keyboard.press('Escape')
    await goTo(page, 'Images')
    await check(page, `${screen}-images`)
    await page.getByRole('link', { name: 'team/web:v1' }).click()
    await page.getByRole('treeitem', { name: /^usr/ }).click()
    await page.getByRole('treeitem', { name: /^lib/ }).waitFor()
    await check(page, `${screen}-image`)
    await page.getByRole('radio').last().check({ force: true })
    await page.getByRole('heading', { name: 'What is in layer 1' }).waitFor()
    await page.getByRole('treeitem', { name: /^var .* wasted$/ }).waitFor()
    await check(page, `${screen}-layer`)
    for (const view of ['Containers', 'Activity', 'Health']) {
      await goTo(page, view)
      await check(page, `${screen}-${view.toLowerCase()}`)
    }
    assert.deepEqual([wrong, withToken], [[], []])
    await page.context().close()
  })
}

test('the page shows the same sizes as the daemon reports, as a picture and as a table', async () => {
  const page = await world.open()
  const usage = (await world.ask('GET', '/v1/df')) as { images: { names: string[]; ownBytes: number }[] }
  const own = usage.images.find(({ names: [name] }) => name === worker)?.ownBytes ?? 0
  const text = `${(own / 2 ** 20).toFixed(1)} MiB`
  const row = page.getByRole('row', { name: /team\/worker:v1/ })
  // The table exists for screen readers before a user opens it.
  assert.match((await row.textContent()) ?? '', new RegExp(text.replace('.', '\\.')))
  assert.match((await page.locator('.treemap').textContent()) ?? '', new RegExp(text.replace('.', '\\.')))
  await page.context().close()
})

test('the contents of an image can be browsed by keyboard alone, and the focus stays in place', async () => {
  const page = await world.open()
  const focused = async () => page.evaluate<string>(`document.activeElement?.textContent ?? ''`)
  const tabTo = async (text: RegExp) => {
    for (let presses = 0; presses < 40; presses += 1) {
      if (text.test(await focused())) return
      await page.keyboard.press('Tab')
    }
    assert.fail(`no Tab leads to ${text}`)
  }
  await page.keyboard.press('Tab')
  assert.equal(await focused(), 'Skip to the content')
  await tabTo(/^Images$/)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { level: 1, name: 'Images' }).waitFor()
  // A screen reader reads the title of the view that has appeared.
  assert.equal(await focused(), 'Images')
  await tabTo(/team\/web:v1$/)
  await page.keyboard.press('Enter')
  await page.getByRole('treeitem').first().waitFor()
  await tabTo(/^usr/)
  await page.keyboard.press('ArrowRight')
  await page.getByRole('treeitem', { name: /^lib/ }).waitFor()
  await page.keyboard.press('ArrowRight')
  assert.match(await focused(), /^lib/)
  await page.keyboard.press('ArrowLeft')
  assert.match(await focused(), /^usr/)
  await page.keyboard.press('ArrowLeft')
  assert.equal(await page.getByRole('treeitem', { name: /^lib/ }).count(), 0)
  await page.keyboard.press('End')
  assert.match(await focused(), /^bin/)
  await page.keyboard.press('s')
  assert.match(await focused(), /^srv/)
  await page.getByRole('button', { name: 'Remove…' }).focus()
  await page.keyboard.press('Enter')
  await page.getByText('It is in use by 1 container: web.').waitFor()
  await page.keyboard.press('Escape')
  assert.equal(await focused(), 'Remove…')
  await page.context().close()
})

test('an image is removed only after the page has shown how much space that frees, and is gone from the store', async () => {
  const name = world.serve('tools/extra', 'v1', buildImage({ tars: [buildTar([file('extra', 3000)])] }))
  await world.pull(name)
  const page = await world.open()
  await goTo(page, 'Images')
  await page.getByRole('button', { name: `Remove ${name}…` }).click()
  await page.getByText(/This frees 2\.9 MiB/).waitFor()
  await page.getByRole('button', { name: 'Keep it' }).click()
  await page.getByRole('button', { name: `Remove ${name}…` }).click()
  await page.getByRole('button', { name: 'Remove the image' }).click()
  await page.getByRole('row', { name: /tools\/extra/ }).waitFor({ state: 'detached' })
  await page.getByText(`Removed ${name}.`).waitFor({ state: 'attached' })
  const { layers } = (await world.ask('GET', '/v1/df')) as { layers: { images: string[] }[] }
  assert.ok(layers.every(({ images }) => images.length > 0))
  await page.context().close()
})

test('a prune first shows the objects that it would remove, and then removes exactly these', async () => {
  const name = world.serve('tools/old', 'v1', buildImage({ tars: [buildTar([file('old', 5000)])] }))
  await world.pull(name)
  const page = await world.open()
  await page.getByRole('button', { name: 'Prune…' }).click()
  await page.getByText('There is nothing to remove.').waitFor()
  await page.getByLabel('Also images with a name').check()
  await page.getByRole('dialog').getByText(name).waitFor()
  const listed = async () => ((await world.ask('GET', '/v1/images')) as unknown[]).length
  const before = await listed()
  const removed = await page.getByRole('dialog').getByRole('listitem').count()
  await page.getByRole('button', { name: /^Remove, and free / }).click()
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  assert.equal(await listed(), before - removed)
  await page.getByText(/^Pruned: /).waitFor({ state: 'attached' })
  await page.context().close()
})

test('a pull of another client is shown with its progress, and then in the list of images', async () => {
  const tars = [1, 2, 3, 4].map((layer) => buildTar([file(`layer-${layer}`, 600)]))
  const name = world.serve('team/slow', 'v1', buildImage({ tars }))
  const gate = Promise.withResolvers<void>()
  let blobs = 0
  world.registry.intercept = (request, response) => {
    blobs += request.url?.includes('/blobs/') === true ? 1 : 0
    // The config and one layer arrive; the others wait.
    if (blobs <= 2) return false
    void gate.promise.then(() => {
      world.registry.answer(request, response)
      return undefined
    })
    return true
  }
  const page = await world.open()
  await goTo(page, 'Activity')
  const pulled = world.pull(name)
  try {
    const progress = page.getByRole('progressbar', { name: `Pull of ${name}` })
    await progress.waitFor()
    await page.getByText('1 of 4 layers').waitFor()
    assert.equal(await progress.getAttribute('value'), '0.25')
    await check(page, 'pulling')
  } finally {
    gate.resolve()
  }
  await pulled
  await page.getByText('Nothing is being pulled').waitFor()
  await page.getByRole('listitem').filter({ hasText: 'images.pull' }).filter({ hasText: name }).waitFor()
  await goTo(page, 'Images')
  await page.getByRole('row', { name: /team\/slow/ }).waitFor()
  await page.context().close()
})

test('the token is removed from the address at once, a reload keeps it for this tab, and the page reports when it is closed', async () => {
  const page = await world.open()
  assert.ok(!page.url().includes('access'))
  await page.reload()
  await page.getByText('On disk', { exact: true }).waitFor()
  const other = await page.context().newPage()
  await other.goto(page.url())
  await other.getByRole('heading', { name: 'This page is closed' }).waitFor()
  await world.ask('DELETE', '/v1/ui')
  await page.getByRole('button', { name: 'Prune…' }).click()
  await page.getByText('The daemon does not answer.').waitFor()
  await page.context().close()
})

/** The attempts of another web site in the browser of a user who has the page open. */
const ATTACK = `
async function tried(act) {
  try {
    await act()
    return 'done'
  } catch {
    return 'refused'
  }
}
async function attack(origin) {
  const form = Object.assign(document.createElement('form'), { method: 'POST', target: 'nowhere' })
  form.action = origin + '/v1/images/prune'
  document.body.append(form)
  form.submit()
  const framed = () => new Promise((done, fail) => {
    const frame = Object.assign(document.createElement('iframe'), { src: origin + '/' })
    // A page that may not be framed is an error, of another origin than its own.
    frame.addEventListener('load', () => (frame.contentWindow.length === 0 ? fail() : done()))
    document.body.append(frame)
  })
  const connected = () => new Promise((done, fail) => {
    const socket = new WebSocket(origin.replace('http', 'ws') + '/v1/events')
    socket.addEventListener('open', done)
    socket.addEventListener('error', fail)
  })
  return {
    read: await tried(() => fetch(origin + '/v1/images')),
    remove: await tried(() => fetch(origin + '/v1/images?image=x', { method: 'DELETE' })),
    script: await tried(() => import(origin + '/page.js')),
    frame: await tried(framed),
    socket: await tried(connected),
  }
}`

test('another web site in the same browser reads nothing and removes nothing, by fetch, form, frame or WebSocket', async () => {
  const { origin } = new URL(await world.address())
  const page = await world.open()
  const before = await world.ask('GET', '/v1/images')
  const site = createServer((_request, response) => {
    response
      .writeHead(200, { 'content-type': 'text/html' })
      .end(`<!doctype html><body><script>${ATTACK}</script>`)
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  site.listen(0, '127.0.0.1', resolve)
  await promise
  try {
    const other = await page.context().newPage()
    await other.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`)
    assert.deepEqual(await other.evaluate(`attack(${JSON.stringify(origin)})`), {
      read: 'refused',
      remove: 'refused',
      script: 'refused',
      frame: 'refused',
      socket: 'refused',
    })
    assert.deepEqual(await world.ask('GET', '/v1/images'), before)
    await page.context().close()
  } finally {
    site.close()
    site.closeAllConnections()
  }
})
