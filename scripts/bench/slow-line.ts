// node slow-line.ts TARGET_PORT ONE_WAY_MS BYTES_PER_SECOND: passes connections on to a port of this machine as a line would that delays each
// direction and carries so many bytes a second to the client, over all connections. Prints its own port.
import { connect, createServer, type Socket } from 'node:net'

const [targetPort = 0, oneWayMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY] = process.argv
  .slice(2)
  .map(Number)
/** What is under way to one side: beyond that its sender waits. */
const MAX_QUEUED_BYTES = 1 << 20

/** When the line to the clients is free again. */
let freeAtMs = 0

const server = createServer((client) => {
  const target = connect({ port: targetPort, host: '127.0.0.1' })
  for (const socket of [client, target]) socket.setNoDelay(true)
  pass(client, target, () => performance.now())
  pass(target, client, (bytes) => {
    freeAtMs = Math.max(freeAtMs, performance.now()) + (bytes / bytesPerSecond) * 1000
    return freeAtMs
  })
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  console.log(typeof address === 'object' ? address?.port : address)
})

/** Passes bytes on in their order, each some time after `sentAtMs` says that it was sent. */
function pass(from: Socket, to: Socket, sentAtMs: (bytes: number) => number): void {
  const queue: { readonly bytes: Buffer | undefined; readonly dueMs: number }[] = []
  let queuedBytes = 0
  let timer: NodeJS.Timeout | undefined
  const deliver = () => {
    timer = undefined
    for (let [next] = queue; next !== undefined && next.dueMs <= performance.now(); [next] = queue) {
      queue.shift()
      queuedBytes -= next.bytes?.length ?? 0
      if (next.bytes === undefined) to.end()
      else to.write(next.bytes)
    }
    if (queuedBytes < MAX_QUEUED_BYTES) from.resume()
    const [next] = queue
    if (next !== undefined) timer = setTimeout(deliver, Math.max(0, next.dueMs - performance.now()))
  }
  const add = (bytes: Buffer | undefined) => {
    queue.push({ bytes, dueMs: sentAtMs(bytes?.length ?? 0) + oneWayMs })
    queuedBytes += bytes?.length ?? 0
    if (queuedBytes >= MAX_QUEUED_BYTES) from.pause()
    timer ??= setTimeout(deliver, oneWayMs)
  }
  from.on('data', add)
  from.on('end', () => {
    add(undefined)
  })
  for (const socket of [from, to]) {
    socket.on('error', () => {
      from.destroy()
      to.destroy()
    })
  }
}
