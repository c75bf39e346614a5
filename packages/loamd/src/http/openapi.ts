import { type ConversionConfig, toJsonSchema, toJsonSchemaDefs } from '@valibot/to-json-schema'
import { ERRORS } from 'loamfs'
import {
  CONVERSATIONS,
  type Conversation,
  type Download,
  DOWNLOADS,
  type Operation,
  OPERATIONS,
  SCHEMAS,
  SUBSCRIPTIONS,
  UPLOADS,
} from 'loamfs/internal'
import type * as v from 'valibot'
import { LINES_TYPE } from './lines.ts'
import { PROBLEM_TYPE } from './problem.ts'

/** The request of an operation that takes a stream. */
const BYTES_TYPE = 'application/octet-stream'

type Json = Readonly<Record<string, unknown>>

const CONVERSION: ConversionConfig = {
  typeMode: 'input',
  // They transform texts that their input schemas describe, or check what no schema can say.
  ignoreActions: ['check', 'to_lower_case', 'transform'],
  overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
}

/** Returns the OpenAPI description of the API, from the very schemas that check its requests. */
export function createOpenApi(): Json {
  const all = { ...OPERATIONS, ...DOWNLOADS, ...UPLOADS, ...CONVERSATIONS, ...SUBSCRIPTIONS }
  const paths = Object.groupBy(Object.entries(all), ([, { path }]) => path)
  return {
    openapi: '3.1.0',
    info: {
      title: "API of Loam's daemon",
      version: 'v1',
      description:
        'HTTP over the unix socket loamd.sock in the state directory. docs/api.md says how to use it. With `Accept: application/x-ndjson` an operation answers with lines of JSON: events, then the result or the error.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://loamd', description: 'Any host name works: the socket decides.' }],
    paths: Object.fromEntries(
      Object.entries(paths).map(([path, operations = []]) => [
        path,
        Object.fromEntries(
          operations.map(([name, each]) => [each.method.toLowerCase(), describe(name, each as Described)]),
        ),
      ]),
    ),
    components: { schemas: { Problem: PROBLEM, ...toJsonSchemaDefs(SCHEMAS, CONVERSION) } },
  }
}

/** An operation of any of the tables. */
type Described = Pick<Operation, 'summary' | 'request'> & { readonly method: string } & Partial<
    Pick<Operation, 'result' | 'event'> & Pick<Download, 'mediaType'> & Pick<Conversation, 'reply'>
  >

function describe(name: string, operation: Described): Json {
  const { method, summary, request, reply } = operation
  const { entries } = request
  return {
    operationId: name,
    summary,
    tags: [name.split('.')[0]],
    ...(method === 'POST'
      ? { requestBody: { content: bodyOf(request, reply) } }
      : {
          ...(method === 'PUT' ? { requestBody: { content: { [BYTES_TYPE]: { schema: {} } } } } : {}),
          parameters: Object.entries(entries).map(([field, schema]) => parameter(field, schema)),
        }),
    responses: {
      200: {
        description: 'The result.',
        content: contentOf(operation),
      },
      default: {
        description: 'A problem document.',
        content: { [PROBLEM_TYPE]: { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    },
  }
}

/** A request, or lines: the request, and then the reply. */
function bodyOf(request: v.GenericSchema, reply: v.GenericSchema | undefined): Json {
  if (reply === undefined) return { 'application/json': { schema: schemaOf(request) } }
  return { [LINES_TYPE]: { schema: { oneOf: [schemaOf(request), schemaOf(reply)] } } }
}

function contentOf({ result, event, mediaType }: Described): Json {
  if (mediaType !== undefined) return { [mediaType]: { schema: {} } }
  const lines = { [LINES_TYPE]: { schema: line(result, event) } }
  return result === undefined ? lines : { 'application/json': { schema: schemaOf(result) }, ...lines }
}

function parameter(name: string, schema: unknown): Json {
  const isOptional = typeof schema === 'object' && schema !== null && 'wrapped' in schema
  return { name, in: 'query', required: !isOptional, schema: schemaOf(schema as v.GenericSchema) }
}

/** One line of an answer in lines. */
function line(result: v.GenericSchema | undefined, event: v.GenericSchema | undefined): Json {
  const only = (field: string, schema: Json) => ({
    type: 'object',
    properties: { [field]: schema },
    required: [field],
  })
  return {
    oneOf: [
      ...(event === undefined ? [] : [only('event', schemaOf(event))]),
      only('dropped', { type: 'integer' }),
      ...(result === undefined
        ? [only('alive', { type: 'integer' })]
        : [only('result', schemaOf(result)), only('error', { $ref: '#/components/schemas/Problem' })]),
    ],
  }
}

function schemaOf(schema: v.GenericSchema): Json {
  const {
    $schema: _dialect,
    $defs: _named,
    ...rest
  } = toJsonSchema(schema, { ...CONVERSION, definitions: SCHEMAS })
  return rest
}

const PROBLEM: Json = {
  type: 'object',
  description: 'An error (RFC 9457). Match it by its code: docs/errors.md lists all.',
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string', description: 'What was attempted, on what, and what happened.' },
    code: { enum: Object.keys(ERRORS) },
    kind: { enum: [...new Set(Object.values(ERRORS))] },
    hint: { type: 'string', description: 'What to do about it.' },
    details: { type: 'object' },
    requestId: { type: 'string', description: 'Id of the request, as in the header x-request-id.' },
  },
  required: ['type', 'title', 'status', 'detail', 'code', 'kind', 'details'],
}
