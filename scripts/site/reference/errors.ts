import { readFileSync } from 'node:fs'
import { ERRORS, type ErrorCode, LoamError } from '../../../packages/loam/src/index.ts'
import { toProblem } from '../../../packages/loamd/src/http/problem.ts'
import { anchorsIn, code, table } from '../markdown.ts'
import type { Reference } from '../page.ts'
import { singlePage } from './single-page.ts'

/** Returns the table of all errors; docs/errors.md has a section for each. */
export function errorPage(): Reference {
  const document = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8')
  const anchors = [...anchorsIn(document)]
  const rows = Object.entries(ERRORS).map(([name, kind]) => {
    const { status } = toProblem(new LoamError(name as ErrorCode, ''))
    const anchor = anchors.find((each) => each.startsWith(`${name.toLowerCase()}-`)) ?? ''
    return [`[${name}](../errors.md#${anchor})`, code(kind), String(status)]
  })
  return singlePage(
    'error-codes',
    'Error codes',
    'The kind is the status of gRPC, the status that of HTTP in [the API](../api.md#errors). [Errors](../errors.md) has the cause and the remedy of each, and the exit statuses.',
    table(['Code', 'Kind', 'HTTP status'], rows),
  )
}
