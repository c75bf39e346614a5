import { OPERATION_NAMES } from '../../../packages/loam/src/activity/index.ts'
import { createOpenApi } from '../../../packages/loamd/src/http/openapi.ts'
import { code, table } from '../markdown.ts'
import type { Reference } from '../page.ts'
import type { OpenApi } from './api.ts'
import { schemaTables } from './json-schema.ts'
import { singlePage } from './single-page.ts'

/** Those that are no operations of the API: containerd asks for most of them. */
const OTHERS: Readonly<Record<string, string>> = {
  'containers.exec': 'Run a further process in a container.',
  'layers.denyIndex': 'Deny a lazy index that is wrong: all reads of its layer fail from then on.',
  'snapshots.apply': "Apply a layer of containerd's content store.",
  'snapshots.leave': 'Leave a layer to containerd: `cause` says why.',
  'snapshots.prepare': 'Create an active snapshot.',
  'snapshots.remove': 'Remove a snapshot.',
  'snapshots.update': 'Change the labels of a snapshot.',
  'snapshots.view': 'Create a snapshot that is read-only.',
}

/** Returns the page of the operations that events report. */
export function eventPage(): Reference {
  const { components, paths } = createOpenApi() as unknown as OpenApi
  const summaries = new Map(
    Object.values(paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId, summary }) => [operationId, summary]),
    ),
  )
  const rows = OPERATION_NAMES.filter((name) => name !== 'layer').map((name) => [
    code(name),
    summaries.get(name) ?? OTHERS[name] ?? '',
  ])
  const event = components.schemas['ActivityEvent']
  if (event === undefined) throw new Error('the description has no events')
  return singlePage(
    'events',
    'Events',
    '`loam events` and `GET /v1/events` report operations on the store as they begin, go on and end, for all clients of a `loamd`. [Running loamd](../operations.md#events) has an example.',
    '## Operations',
    table(['Operation', 'What it does'], rows),
    '`layer` is a part of them: one layer that is fetched.',
    '## Fields',
    schemaTables(event, { schemas: './schemas.md' }),
  )
}
