import type { Actions } from './context.ts'

/** Operations on the web page. */
export const UI_ACTIONS: Actions<'ui'> = {
  'ui.open': async ({ page }) => ({ address: await page.open() }),
  'ui.close': async ({ page }) => ({ closed: await page.close() }),
}
