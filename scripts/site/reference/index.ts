// The generated part of the reference: what the programs know about themselves.
import type { Reference } from '../page.ts'
import { apiPages } from './api.ts'
import { commandPages } from './commands.ts'
import { errorPage } from './errors.ts'
import { eventPage } from './events.ts'
import { libraryPage } from './library.ts'
import { metricsPage } from './metrics.ts'
import { schemaPage } from './schemas.ts'
import { settingsPage } from './settings.ts'

/** Returns the generated pages. */
export function referencePages(): Reference {
  const parts = [
    commandPages(),
    settingsPage(),
    errorPage(),
    apiPages(),
    schemaPage(),
    eventPage(),
    metricsPage(),
    libraryPage(),
  ]
  return { pages: parts.flatMap(({ pages }) => pages), entries: parts.flatMap(({ entries }) => entries) }
}
