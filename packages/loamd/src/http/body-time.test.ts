// Limits of the time for bodies, with a clock that the test turns.
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { HttpWorld } from '../../test/support/http-world.ts'
import { REQUEST_TIMEOUT_MS } from './limits.ts'

/** Sends a part of a request, and returns the answer once the clock has been turned as far as the limit. */
async function answerTo(world: HttpWorld, part: string): Promise<string> {
  const socket = world.connect()
  const said: string[] = []
  socket.setEncoding('utf8').on('data', (text: string) => said.push(text))
  socket.write(part)
  try {
    for (let turnedMs = 0; !said.join('').includes('}'); turnedMs += REQUEST_TIMEOUT_MS / 4) {
      mock.timers.tick(REQUEST_TIMEOUT_MS / 4)
      // The request arrives in between, at any time.
      for (let turns = 0; turns < 50; turns += 1) await new Promise((resolve) => setImmediate(resolve))
      assert.ok(turnedMs < 100 * REQUEST_TIMEOUT_MS, 'there is no answer')
    }
    return said.join('')
  } finally {
    socket.destroy()
  }
}

test('a client that does not send the body of its request in time is answered 408, also one with a part in the operation', async () => {
  await using world = await HttpWorld.start()
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const json = 'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"image":'
    const lines = 'content-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n'
    for (const [path, rest] of [
      ['/v1/images/pull', json],
      ['/v1/containers/run', lines],
    ] as const) {
      const answer = await answerTo(world, `POST ${path} HTTP/1.1\r\nhost: x\r\n${rest}`)
      assert.match(answer, /^HTTP\/1\.1 408 [^]*it took more than 60 s/)
    }
  } finally {
    mock.timers.reset()
  }
  assert.equal((await world.send('GET', '/v1/images')).status, 200)
})
