import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { createOpenApi } from '../../../packages/loamd/src/http/openapi.ts'
import { code, fenced, slugify, table } from '../markdown.ts'
import type { Entry, Page, Reference } from '../page.ts'
import { type JsonSchema, schemaTables, typeText } from './json-schema.ts'

interface Body {
  readonly content: Readonly<Record<string, { readonly schema: JsonSchema }>>
}

interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly tags: readonly string[]
  readonly parameters?: readonly {
    readonly name: string
    readonly required: boolean
    readonly schema: JsonSchema
  }[]
  readonly requestBody?: Body
  readonly responses: { readonly 200: Body }
}

/** The description of the API. */
export interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, JsonSchema>> }
}

const SOURCES = fileURLToPath(new URL('../../../packages/loam/src/api', import.meta.url))
const SCHEMAS_PAGE = '../schemas.md'
const LINES = 'application/x-ndjson'
const JSON_TYPE = 'application/json'

interface Described extends Operation {
  readonly method: string
  readonly path: string
}

/** Returns a page for each kind of object of the API, and one with all operations. */
export function apiPages(): Reference {
  const { paths } = createOpenApi() as unknown as OpenApi
  const operations: Described[] = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, each]) => ({ ...each, method: method.toUpperCase(), path })),
  )
  const groups = Map.groupBy(operations, ({ tags }) => tags[0] ?? '')
  const meanings = fieldMeanings()
  const pages = [...groups].map(
    ([tag, own]): Page => ({
      path: `reference/api/${tag}.md`,
      text: [`# API: ${tag}`, ...own.map((each) => operationText(each, meanings))].join('\n\n'),
    }),
  )
  const items = [...groups.keys()].map((tag): Entry => ({ text: tag, link: `/reference/api/${tag}` }))
  return {
    pages: [{ path: 'reference/api.md', text: overviewText(groups) }, ...pages],
    entries: [{ text: 'Operations of the API', link: '/reference/api', collapsed: true, items }],
  }
}

function overviewText(groups: ReadonlyMap<string, readonly Described[]>): string {
  return [
    '# Operations of the API',
    '[The API of loamd](../api.md) says how to use it; [openapi.json](/openapi.json) describes it for programs. The library has the same operations under the same names.',
    ...[...groups].map(([tag, operations]) => {
      const rows = operations.map(({ operationId, method, path, summary }) => [
        `[${operationId}](./api/${tag}.md#${slugify(operationId)})`,
        code(`${method} ${path}`),
        summary,
      ])
      return `## ${tag}\n\n${table(['Operation', 'Request', 'What it does'], rows)}`
    }),
  ].join('\n\n')
}

function operationText(operation: Described, meanings: ReadonlyMap<string, string>): string {
  const { operationId, method, path, summary } = operation
  const request = requestOf(operation)
  const options = {
    schemas: SCHEMAS_PAGE,
    meaningOf: (name: string, isRequired: boolean) =>
      meanings.get(meaningKey(name.split('.').at(-1) ?? '', isRequired)),
  }
  const hasFields = Object.keys(request.properties ?? {}).length > 0 || request.oneOf !== undefined
  return [
    `## ${operationId}`,
    summary,
    fenced('http', `${method} ${path}`),
    ...(hasFields ? ['**Request**', schemaTables(request, options)] : []),
    '**Result**',
    resultText(operation),
  ].join('\n\n')
}

function requestOf({ parameters = [], requestBody }: Operation): JsonSchema {
  const body = requestBody?.content[JSON_TYPE] ?? requestBody?.content[LINES]
  if (body !== undefined) return body.schema
  return {
    type: 'object',
    properties: Object.fromEntries(parameters.map(({ name, schema }) => [name, schema])),
    required: parameters.flatMap(({ name, required }) => (required ? [name] : [])),
  }
}

function resultText({ responses }: Operation): string {
  const { content } = responses[200]
  const result = content[JSON_TYPE]?.schema
  const events = content[LINES]?.schema.oneOf?.find(({ properties }) => properties?.['event'] !== undefined)
  const event = events?.properties?.['event']
  const parts = [
    ...(result === undefined ? [] : [resultTable(result)]),
    ...(event === undefined ? [] : [`Events: ${typeText(event, SCHEMAS_PAGE)}.`]),
    ...Object.keys(content)
      .filter((type) => type !== JSON_TYPE && type !== LINES)
      .map((type) => `A stream: ${code(type)}.`),
  ]
  return parts.join('\n\n')
}

function resultTable(schema: JsonSchema): string {
  const isNamed = schema.$ref !== undefined || schema.items?.$ref !== undefined
  return isNamed
    ? `${upper(typeText(schema, SCHEMAS_PAGE))}.`
    : schemaTables(schema, { schemas: SCHEMAS_PAGE })
}

/**
 * Returns what fields of requests mean, from the comments above their schemas. Names are shared: a comment counts for the fields that are
 * optional, or required, as its own, if all definitions like that have it.
 */
function fieldMeanings(): Map<string, string> {
  const source = globSync('*.ts', { cwd: SOURCES })
    .map((file) => readFileSync(`${SOURCES}/${file}`, 'utf8'))
    .join('\n')
  const defined = [...source.matchAll(/(?:\/\*\* ([^*]+) \*\/\n)?^ +(\w+)(?:: (v\.optional)?|,$)/gm)].map(
    ([, comment, name = '', optional]) => ({ comment, key: meaningKey(name, optional === undefined) }),
  )
  const byKey = Map.groupBy(defined, ({ key }) => key)
  return new Map(
    [...byKey].flatMap(([key, all]) => {
      const [{ comment } = {}] = all
      return comment !== undefined && all.every((each) => each.comment === comment) ? [[key, comment]] : []
    }),
  )
}

function meaningKey(name: string, isRequired: boolean): string {
  return isRequired ? name : `${name}?`
}

function upper(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1)
}
