import { createOpenApi } from '../../../packages/loamd/src/http/openapi.ts'
import type { Reference } from '../page.ts'
import type { OpenApi } from './api.ts'
import { schemaTables } from './json-schema.ts'
import { singlePage } from './single-page.ts'

/** Commands whose output with --json is one of the schemas. */
const OUTPUTS: Readonly<Record<string, string>> = {
  ListedImage: 'each element of `loam images --json`',
  ContainerInfo: 'each element of `loam ps --json`, with `process`',
  PulledImage: '`loam pull --json` of one image',
  PushedImage: '`loam push --json`',
  ImageHistory: '`loam history --json`',
  ImageLayers: '`loam layers --json`',
  TreeDiff: '`loam diff --json`',
  StoreUsage: '`loam df --json`',
  FsckReport: '`loam fsck --json`',
  RecoveryReport: '`loam recover --json`',
  ActivityEvent: 'each line of `loam events --json`',
  PullEvent: 'lines of `loam --progress=json pull`',
  PushEvent: 'lines of `loam --progress=json push`',
}

/** Returns the page of all named schemas. */
export function schemaPage(): Reference {
  const { components } = createOpenApi() as unknown as OpenApi
  const parts = Object.entries(components.schemas).map(([name, schema]) => {
    const output = OUTPUTS[name]
    return [
      `## ${name}`,
      ...(schema.description === undefined ? [] : [schema.description]),
      ...(output === undefined ? [] : [`The output of the command: ${output}.`]),
      schemaTables(schema, { schemas: '' }),
    ].join('\n\n')
  })
  return singlePage(
    'schemas',
    'Schemas',
    'Results and events of [the API](./api.md), of the library and of commands with `--json`. [openapi.json](/openapi.json) has them as JSON Schema.',
    ...parts,
  )
}
