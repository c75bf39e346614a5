// The client beside daemons that fail, end too early, or are older.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  createReadStream,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  type DisposableTempDir,
} from 'node:fs'
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, test } from 'node:test'
import { RESULT_TRAILER } from '../api/index.ts'
import { RemoteFiles, RemoteProcesses } from './remote-processes.ts'
import { Transport } from './transport.ts'

const CONTENT = Buffer.alloc(1 << 20, 'x')

describe('pack of a client', () => {
  test('leaves an existing file as it is when the daemon refuses', async () => {
    await using world = await World.start((_request, response) => {
      response.statusCode = 404
      response.end(JSON.stringify({ code: 'CONTAINER_NOT_FOUND', detail: 'none' }))
    })
    writeFileSync(world.file, 'precious')
    await assert.rejects(world.pack({ force: true }), { code: 'CONTAINER_NOT_FOUND' })
    assert.equal(readFileSync(world.file, 'utf8'), 'precious')
    assert.deepEqual(world.names(), ['file'])
  })

  test('leaves no part of a file when the daemon ends, and an existing one as it is', async () => {
    await using world = await World.start((_request, response) => {
      cut(response)
    })
    await assert.rejects(world.pack({}), { code: 'DAEMON_LOST' })
    assert.deepEqual(world.names(), [])
    writeFileSync(world.file, 'precious')
    await assert.rejects(world.pack({ force: true }), { code: 'DAEMON_LOST' })
    assert.equal(readFileSync(world.file, 'utf8'), 'precious')
    assert.deepEqual(world.names(), ['file'])
  })

  test('refuses a file that exists and a directory that does not, and replaces a file by force', async () => {
    await using world = await World.start((_request, response) => {
      sendAll(response)
    })
    writeFileSync(world.file, 'precious')
    await assert.rejects(world.pack({}), { code: 'OUTPUT_EXISTS' })
    assert.equal(readFileSync(world.file, 'utf8'), 'precious')
    for (const directory of [world.file, `${world.file}s`])
      await assert.rejects(world.pack({ output: join(directory, 'none') }), { code: 'USAGE' })
    assert.deepEqual(await world.pack({ force: true }), { leftOut: [] })
    assert.ok(readFileSync(world.file).equals(CONTENT))
    assert.deepEqual(world.names(), ['file'])
  })

  test('writes to a named pipe with a slow reader', async () => {
    await using world = await World.start((_request, response) => {
      sendAll(response)
    })
    assert.equal(spawnSync('mkfifo', [world.file]).status, 0)
    const reading = createReadStream(world.file)
    const packing = world.pack({})
    await once(reading, 'open')
    // Longer than several tries to write to a full pipe.
    await sleep(200)
    assert.ok((await buffer(reading)).equals(CONTENT))
    assert.deepEqual(await packing, { leftOut: [] })
  })
})

describe('processes of a client', () => {
  test('the output of a daemon that ends in the middle is DAEMON_LOST', async () => {
    await using world = await World.start((_request, response) => {
      cut(response)
    })
    await assert.rejects(Array.fromAsync(world.processes.logs('web')), { code: 'DAEMON_LOST' })
  })

  test('a process runs by an older daemon, which does not name the file of its number', async () => {
    await using world = await World.start((request, response) => {
      const send = (line: object) => response.write(`${JSON.stringify(line)}\n`)
      send({ event: { kind: 'start', id: 'web', file: '/bin/sh', args: ['-c', 'exit 3'], env: {} } })
      const answer = async () => {
        const [, reply = '{}'] = (await text(request)).split('\n')
        response.end(`${JSON.stringify({ result: JSON.parse(reply) as unknown })}\n`)
      }
      void answer()
    })
    assert.equal(await world.processes.exec('web', ['true']), 3)
  })
})

function sendAll(response: ServerResponse): void {
  response.writeHead(200, { trailer: RESULT_TRAILER })
  response.write(CONTENT)
  response.addTrailers({ [RESULT_TRAILER]: encodeURIComponent('{"leftOut":[]}') })
  response.end()
}

/** Ends in the middle of a chunked body. */
function cut(response: ServerResponse): void {
  response.writeHead(200)
  response.write('begin', () => response.destroy())
}

interface Packed {
  readonly output?: string
  readonly force?: boolean
}

/** A daemon that answers all requests alike, and a directory for files. */
class World implements AsyncDisposable {
  readonly #files: DisposableTempDir
  readonly #sockets: DisposableTempDir
  readonly #server: Server
  readonly #transport: Transport
  readonly processes: RemoteProcesses

  private constructor(answer: RequestListener) {
    this.#files = mkdtempDisposableSync(join(tmpdir(), 'loam-client-files-'))
    this.#sockets = mkdtempDisposableSync(join(tmpdir(), 'loam-client-'))
    this.#server = createServer(answer)
    this.#transport = new Transport(this.#socket)
    this.processes = new RemoteProcesses(this.#transport)
  }

  static async start(answer: RequestListener): Promise<World> {
    const world = new World(answer)
    await once(world.#server.listen(world.#socket), 'listening')
    return world
  }

  get #socket(): string {
    return join(this.#sockets.path, 'socket')
  }

  get file(): string {
    return join(this.#files.path, 'file')
  }

  names(): string[] {
    return readdirSync(this.#files.path)
  }

  async pack({ output = this.file, force = false }: Packed): Promise<unknown> {
    return new RemoteFiles(this.#transport).pack('web', '/', output, { force })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#transport.close()
    this.#server.closeAllConnections()
    this.#server.close()
    this.#files.remove()
    this.#sockets.remove()
    return Promise.resolve()
  }
}
