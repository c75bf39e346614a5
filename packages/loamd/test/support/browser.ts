// A real browser (Debian's chromium), the screens that pages are looked at on, and what must hold on each.
import { readFileSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

const CHROMIUM = '/usr/bin/chromium'
const AXE = readFileSync(new URL(import.meta.resolve('axe-core/axe.min.js')), 'utf8')

export const SCREENS: Readonly<Record<string, BrowserContextOptions>> = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark', reducedMotion: 'reduce' },
  phone: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
}

/** Starts a browser; the caller closes it. */
export async function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] })
}

/** Returns the findings of the accessibility checker, without those of some of its rules. */
export async function findBarriers(page: Page, without: readonly string[] = []): Promise<string[]> {
  await page.evaluate(AXE)
  return page.evaluate(async (ids) => {
    const { axe } = globalThis as unknown as {
      axe: {
        run: (options: { rules: Record<string, { enabled: boolean }> }) => Promise<{
          violations: { id: string; nodes: { html: string; failureSummary: string }[] }[]
        }>
      }
    }
    const { violations } = await axe.run({
      rules: Object.fromEntries(ids.map((id) => [id, { enabled: false }])),
    })
    return violations.flatMap(({ id, nodes }) =>
      nodes.map((node) => `${id}: ${node.html}\n${node.failureSummary}`),
    )
  }, without)
}

/** Returns by how many pixels a page is wider than the screen. */
export async function overflowOf(page: Page): Promise<number> {
  return page.evaluate<number>(
    `(({ scrollWidth, clientWidth }) => Math.max(0, scrollWidth - clientWidth))(document.documentElement)`,
  )
}

/** Returns what a page reports from now on: errors, warnings, and requests that go elsewhere. */
export function watchPage(page: Page, origin: string): readonly string[] {
  const wrong: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') wrong.push(message.text())
  })
  page.on('pageerror', (error) => wrong.push(error.message))
  page.on('request', (request) => {
    if (!request.url().startsWith(`${origin}/`)) wrong.push(request.url())
  })
  return wrong
}
