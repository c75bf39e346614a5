import type { IncomingMessage } from 'node:http'
import { LoamError } from 'loamfs'
import * as v from 'valibot'
import { MAX_BODY_BYTES, REQUEST_TIMEOUT_MS } from './limits.ts'
import { HttpError } from './problem.ts'

/** Text that is not UTF-8 would become another text, which may name another file. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A schema whose entries are the fields of a request. */
type FieldsSchema<Request> = v.GenericSchema<unknown, Request> & { readonly entries: v.ObjectEntries }

/** Reads the request from the query. @throws USAGE with the name of the field */
export function readQuery<Request>(schema: FieldsSchema<Request>, query: URLSearchParams): Request {
  const names = [...new Set(query.keys())]
  const fields = names.map((name) => [name, readField(schema.entries[name], query.getAll(name))])
  return check(schema, Object.fromEntries(fields))
}

/** A query has only texts; the schema decides which of them are numbers or booleans. Invalid text is left to the check. */
function readField(schema: unknown, values: readonly string[]): unknown {
  const type = typeOf(schema)
  if (type === 'array') return values
  // The check refuses a field that is repeated.
  if (values.length !== 1) return values
  const [value = ''] = values
  if (type === 'boolean') return value === 'true' ? true : value === 'false' ? false : value
  return type === 'number' && /^\d+$/.test(value) ? Number(value) : value
}

function typeOf(schema: unknown): string | undefined {
  if (typeof schema !== 'object' || schema === null) return undefined
  if ('wrapped' in schema) return typeOf(schema.wrapped)
  return 'type' in schema && typeof schema.type === 'string' ? schema.type : undefined
}

/** Reads the request from a body of JSON; no body is an empty object. @throws USAGE with the name of the field; HttpError */
export async function readBody<Request>(
  schema: FieldsSchema<Request>,
  incoming: IncomingMessage,
): Promise<Request> {
  const body = await readBytes(incoming)
  if (body.length === 0) return check(schema, {})
  const [type = ''] = (incoming.headers['content-type'] ?? '').split(';')
  if (type.trim().toLowerCase() !== 'application/json') {
    throw new HttpError(415, 'read the request: its content-type is not application/json')
  }
  return check(schema, parseJson(body))
}

/** Reads the query of what a request asks for. @throws USAGE */
export function parseQuery(url = ''): URLSearchParams {
  const start = url.indexOf('?')
  const query = start < 0 ? '' : url.slice(start + 1)
  try {
    // URLSearchParams would replace what is not UTF-8.
    decodeURIComponent(query)
    return new URLSearchParams(query)
  } catch {
    throw new LoamError('USAGE', 'read the request: its query is not UTF-8, percent-encoded')
  }
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(UTF8.decode(body))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new LoamError('USAGE', `read the request: it is not JSON: ${reason}`)
  }
}

async function readBytes(incoming: IncomingMessage): Promise<Buffer> {
  return withinTimeout(gather(incoming))
}

/** Waits for what a client has to send soon. @throws HttpError 408 */
export async function withinTimeout<T>(sent: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const limit = setTimeout(() => {
    late.reject(new HttpError(408, `read the request: it took more than ${REQUEST_TIMEOUT_MS / 1000} s`))
  }, REQUEST_TIMEOUT_MS)
  try {
    return await Promise.race([sent, late.promise])
  } finally {
    clearTimeout(limit)
  }
}

async function gather(incoming: IncomingMessage): Promise<Buffer> {
  const tooLarge = new HttpError(413, `read the request: it has more than ${MAX_BODY_BYTES} bytes`)
  if (Number(incoming.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge
  const chunks: Buffer[] = []
  let bytes = 0
  // Its client may still be sending, and reads the answer only if the connection stays open meanwhile.
  for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
    if (!Buffer.isBuffer(chunk)) continue
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw tooLarge
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Reads a request that is JSON. @throws USAGE with the name of the field */
export function check<Request>(schema: v.GenericSchema<unknown, Request>, value: unknown): Request {
  const parsed = v.safeParse(schema, value)
  if (!parsed.success) {
    const [issue] = parsed.issues
    throw refusal(v.getDotPath(issue), issue.message)
  }
  const list = findList(value, parsed.output)
  if (list !== undefined) throw refusal(list.join('.') || null, 'is a list, and not an object')
  const text = findBrokenText(value)
  if (text !== undefined) throw refusal(text.join('.') || null, 'is not Unicode: it has half of a character')
  return parsed.output
}

function refusal(field: string | null, reason: string): LoamError {
  return new LoamError('USAGE', `read the request: ${field === null ? '' : `${field}: `}${reason}`, {
    details: field === null ? {} : { field },
  })
}

/** Returns the path of a list that the schema took for an object without fields, as valibot does. */
function findList(value: unknown, output: unknown): string[] | undefined {
  if (!isObject(value) || !isObject(output)) return undefined
  if (Array.isArray(value) && !Array.isArray(output)) return []
  for (const [name, part] of Object.entries(output)) {
    const path = findList(value[name], part)
    if (path !== undefined) return [name, ...path]
  }
  return undefined
}

/** Returns the path of a text with half of a pair of surrogates, or of one whose name is such a text. UTF-8 cannot express it. */
function findBrokenText(value: unknown): string[] | undefined {
  if (typeof value === 'string') return value.isWellFormed() ? undefined : []
  if (!isObject(value)) return undefined
  for (const [name, part] of Object.entries(value)) {
    const path = name.isWellFormed() ? findBrokenText(part) : []
    if (path !== undefined) return [name.toWellFormed(), ...path]
  }
  return undefined
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

/** Checks that a request has no body: its method takes its fields from the query. @throws USAGE */
export function refuseBody({ headers }: IncomingMessage): void {
  if (headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0) return
  throw new LoamError('USAGE', 'read the request: it has a body, and its method takes fields from the query')
}

/** Checks that a request has no query: its method takes its fields from the body. @throws USAGE with the name of a field */
export function refuseQuery(query: URLSearchParams): void {
  for (const field of query.keys()) throw refusal(field, 'is in the query, and its method takes a body')
}
