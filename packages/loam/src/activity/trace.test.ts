import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LoamError } from '../errors/index.ts'
import {
  Activity,
  readTraceContext,
  type TraceContext,
  traced,
  tracedStream,
  traceHeaders,
  type Tracer,
  withRequest,
} from './index.ts'

const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

/** A tracer whose spans are named by numbers, and the spans that have ended. */
function createTracer() {
  const ended: string[] = []
  let last = 0
  const tracer: Tracer = {
    begin: (name, _attributes, parent) => {
      last += 1
      const context: TraceContext = { parent: `span ${last}`, state: undefined, isRemote: false }
      return {
        context,
        end: (_result, error) => {
          ended.push(`${name} in ${parent?.parent ?? 'none'}: ${error?.code ?? 'ok'}`)
        },
      }
    },
  }
  return { tracer, ended }
}

test('a trace context that is not valid is left out, and an invalid state as well', () => {
  assert.deepEqual(readTraceContext(PARENT, 'a=1'), { parent: PARENT, state: 'a=1', isRemote: true })
  assert.equal(readTraceContext(PARENT, 'a\n')?.state, undefined)
  for (const given of [undefined, '', `${PARENT}-x`, PARENT.replace('00-', 'ff-'), PARENT.toUpperCase()])
    assert.equal(readTraceContext(given, undefined), undefined)
  assert.equal(
    readTraceContext(PARENT.replace('0af7651916cd43dd8448eb211c80319c', '0'.repeat(32)), ''),
    undefined,
  )
})

test('operations, their parts and their streams are spans of one trace, and each ends with what came of it', async () => {
  const { tracer, ended } = createTracer()
  const activity = new Activity()
  activity.traceBy(tracer)
  const headers: (string | undefined)[] = []
  const source = async function* (fails: boolean) {
    headers.push(traceHeaders()['traceparent'])
    yield 1
    if (fails) throw new LoamError('REGISTRY_RESPONSE', 'fetch: no')
  }
  const read = async (fails: boolean) => {
    for await (const _item of tracedStream('fetch', {}, () => source(fails)));
  }
  await withRequest({ trace: readTraceContext(PARENT, undefined) }, async () =>
    activity.observe('images.pull', {}, async () => {
      await traced('layer', {}, async () => read(false))
      await assert.rejects(read(true))
      for await (const _item of tracedStream('left', {}, () => source(true))) break
    }),
  )
  assert.deepEqual(ended, [
    'fetch in span 2: ok',
    'layer in span 1: ok',
    'fetch in span 1: REGISTRY_RESPONSE',
    'left in span 1: ok',
    `images.pull in ${PARENT}: ok`,
  ])
  assert.deepEqual(headers, ['span 3', 'span 4', 'span 5'])
})

test('without a tracer nothing is wrapped, and no server learns the context of the caller', async () => {
  const stream = (async function* () {
    yield 1
  })()
  assert.equal(
    tracedStream('fetch', {}, () => stream),
    stream,
  )
  assert.deepEqual(traceHeaders(), {})
  const trace = readTraceContext(PARENT, 'a=1')
  const passed = await withRequest({ trace }, async () => traced('layer', {}, async () => traceHeaders()))
  assert.deepEqual(passed, {})
})
