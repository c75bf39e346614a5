// Runs the body of each request as a shell script in a container of its own: node sandbox-server.ts IMAGE [PORT]
//
//   curl --data 'echo hello; id -u' http://127.0.0.1:8080/
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { isLoamError, openLoam } from 'loamfs'

const MAX_SCRIPT_BYTES = 64 << 10
const TIME_LIMIT_MS = 60_000

const [image = 'debian:12', port = '8080'] = process.argv.slice(2)
await using loam = await openLoam({ env: process.env })
// Later requests do not wait for the registry.
await loam.pull(image)

const server = createServer((request, response) => {
  void answer(request, response)
})
server.listen(Number(port), '127.0.0.1', () => {
  const address = server.address()
  console.log(`http://127.0.0.1:${typeof address === 'object' ? address?.port : port}/`)
})
await new Promise((resolve) => process.once('SIGTERM', resolve))
server.close()

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const result = await run(request)
    response.end(JSON.stringify(result))
  } catch (error) {
    response.statusCode = isLoamError(error) ? 500 : 400
    response.end(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }))
  }
}

async function run(request: IncomingMessage): Promise<{ status: number; stdout: string; stderr: string }> {
  const script = await text(request)
  if (script.length > MAX_SCRIPT_BYTES) throw new Error('the script is too long')
  await using shell = await loam.containers.spawn(image, {
    command: ['sh', '-s'],
    // Without a network, with few processes, and not for longer than this.
    network: 'none',
    pidsLimit: 64,
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  })
  shell.stdin.end(script)
  const [stdout, stderr, status] = await Promise.all([text(shell.stdout), text(shell.stderr), shell.wait()])
  return { status, stdout, stderr }
}
