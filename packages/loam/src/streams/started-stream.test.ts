import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { StartedStream, startReading } from './started-stream.ts'

const chunks = fc.array(fc.uint8Array({ minLength: 1 }), { maxLength: 40 })

test('a stream has all of its bytes, also if Node throws away what nobody reads before it is read', async () => {
  await fc.assert(
    fc.asyncProperty(chunks, fc.nat(5), async (sent, turns) => {
      const readable = new Readable({ read: () => undefined })
      for (const each of [...sent, null]) readable.push(each)
      using stream = new StartedStream<Uint8Array>(readable)
      readable.resume()
      for (let turn = 0; turn < turns; turn += 1) await new Promise((done) => setImmediate(done))
      assert.deepEqual(Buffer.concat(await Array.fromAsync(stream)), Buffer.concat(sent))
    }),
  )
})

test('an error before a stream is read is the error of reading it', async () => {
  const stream = new StartedStream<Uint8Array>(Readable.from(failing()))
  await new Promise((done) => setImmediate(done))
  await assert.rejects(Array.fromAsync(stream), RangeError)
})

test('a stream is closed, read or not', async () => {
  for (const isRead of [true, false]) {
    const readable = Readable.from([Buffer.of(1), Buffer.of(2)])
    {
      using stream = new StartedStream<Uint8Array>(readable)
      if (isRead) for await (const _ of stream) break
    }
    await new Promise((done) => setImmediate(done))
    assert.ok(readable.destroyed)
  }
})

test('a stream that never sends anything is closed at once', async () => {
  const pipe = new Readable({ read: () => undefined })
  let isCanceled = false
  const web = new ReadableStream<Uint8Array>({
    cancel: () => {
      isCanceled = true
    },
  })
  for (const each of [pipe, web]) {
    using _ = new StartedStream<Uint8Array>(each)
  }
  await new Promise((done) => setImmediate(done))
  assert.deepEqual([pipe.destroyed, isCanceled], [true, true])
})

test('a web stream has all of its bytes', async () => {
  using stream = new StartedStream<Uint8Array>(new Blob(['one', 'two']).stream())
  assert.equal(Buffer.concat(await Array.fromAsync(stream)).toString(), 'onetwo')
})

test('closing never fails, whatever the iterator of a stream returns', async () => {
  const fails = () => {
    throw new RangeError('it cannot be closed')
  }
  for (const close of [() => undefined, () => ({ done: true }), fails, async () => Promise.reject(fails)]) {
    const iterator = { next: async () => Promise.resolve({ done: true, value: undefined }), return: close }
    using stream = new StartedStream({ [Symbol.asyncIterator]: () => iterator as never })
    assert.deepEqual(await Array.fromAsync(stream), [])
  }
})

test('a name is not read', () => {
  assert.equal(startReading('-'), undefined)
})

test('what is no stream is refused', () => {
  for (const value of [undefined, null, 1, Buffer.of(1), ['x'], {}])
    assert.throws(() => startReading(value as string), { code: 'USAGE' })
})

async function* failing(): AsyncGenerator<Uint8Array> {
  yield* []
  throw new RangeError('the source fails')
}
