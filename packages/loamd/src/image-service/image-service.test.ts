import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createNetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  Client,
  credentials as channel,
  Metadata,
  type ServerDuplexStream,
  Server,
  ServerCredentials,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { parseReference } from 'loamfs'
import { type AuthConfigSchema, PullImageRequestSchema } from '../../gen/cri_pb.js'
import { Log } from '../log.ts'
import { createImageService } from './image-service.ts'
import { PullCredentials } from './pull-credentials.ts'
import { readPullRequest } from './pull-request.ts'

const LIMIT_MS = 60_000
const same = (bytes: Buffer) => bytes
const path = (method: string) => `/runtime.v1.ImageService/${method}`

/** Bytes in, bytes out: messages of any kind. */
const method = (name: string) => ({
  path: path(name),
  requestStream: true,
  responseStream: true,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
})

type Handle = (call: ServerDuplexStream<Buffer, Buffer>) => void

/** A server in place of containerd, the proxy before it, and a client. */
class Scene implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'loam-proxy-'))
  readonly held = new PullCredentials(LIMIT_MS)
  readonly #upstream = new Server()
  readonly #service = createImageService({
    socket: join(this.folder, 'containerd.sock'),
    credentials: this.held,
    log: new Log('error'),
  })
  readonly #listener = createNetServer(this.#service.accept)
  readonly client = new Client(`unix://${join(this.folder, 'loam.sock')}`, channel.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  })

  async start(handlers: Readonly<Record<string, Handle>>): Promise<void> {
    const names = Object.keys(handlers)
    const definition = Object.fromEntries(names.map((name) => [name, method(name)]))
    this.#upstream.addService(definition, { ...handlers })
    const bound = Promise.withResolvers<void>()
    const address = `unix://${join(this.folder, 'containerd.sock')}`
    this.#upstream.bindAsync(address, ServerCredentials.createInsecure(), (error) => {
      if (error === null) bound.resolve()
      else bound.reject(error)
    })
    await bound.promise
  }

  async listen(): Promise<void> {
    const listening = Promise.withResolvers<void>()
    this.#listener.listen(join(this.folder, 'loam.sock'), listening.resolve)
    await listening.promise
  }

  /** Calls a method, and returns its answer. */
  async ask(name: string, request: Buffer, metadata = new Metadata()): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    this.client.makeUnaryRequest(path(name), same, same, request, metadata, (error, answer) => {
      if (answer === undefined) reject(error ?? new Error('no answer'))
      else resolve(answer)
    })
    return promise
  }

  /** Ends the server in place of containerd, with all its connections. */
  kill(): void {
    this.#upstream.forceShutdown()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close()
    this.#listener.close()
    await this.#service.stop({ limitMs: 0, lingerMs: 0 })
    this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

type Auth = MessageInitShape<typeof AuthConfigSchema>

function pullRequest(image: string, auth?: Auth): Buffer {
  const message = create(PullImageRequestSchema, {
    image: { image },
    ...(auth === undefined ? {} : { auth }),
  })
  return Buffer.from(toBinary(PullImageRequestSchema, message))
}

/** A message as a body of gRPC has it. */
function frame(message: Buffer): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt32BE(message.length, 1)
  return Buffer.concat([header, message])
}

describe('the proxy of the image service', () => {
  let scene: Scene
  beforeEach(async () => {
    scene = new Scene()
    await scene.listen()
  })
  afterEach(async () => scene[Symbol.asyncDispose]())

  test('a method that Loam does not know is passed on byte by byte, with its metadata, and so is the answer', async () => {
    const seen: { metadata?: Metadata } = {}
    await scene.start({
      FutureCall: (call) => {
        seen.metadata = call.metadata
        call.sendMetadata(new Metadata())
        call.on('data', (bytes: Buffer) => call.write(Buffer.from(bytes.toReversed())))
        call.on('end', () => {
          call.end()
        })
      },
    })
    const metadata = new Metadata()
    metadata.set('x-note', 'kept')
    metadata.set('x-note-bin', Buffer.from([0, 255, 10]))
    const request = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251))
    const answer = await scene.ask('FutureCall', request, metadata)
    assert.ok(answer.equals(request.toReversed()))
    assert.deepEqual(seen.metadata?.get('x-note'), ['kept'])
    assert.deepEqual(seen.metadata?.get('x-note-bin'), [Buffer.from([0, 255, 10])])
  })

  test('a stream in both directions is passed on message by message', async () => {
    await scene.start({
      Stream: (call) => {
        call.on('data', (bytes: Buffer) => call.write(Buffer.concat([Buffer.from('re:'), bytes])))
        call.on('end', () => {
          call.end()
        })
      },
    })
    const call = scene.client.makeBidiStreamRequest<Buffer, Buffer>(path('Stream'), same, same)
    const answers = call[Symbol.asyncIterator]()
    const heard: string[] = []
    for (const word of ['one', 'two', 'three']) {
      call.write(Buffer.from(word))
      heard.push(String((await answers.next()).value))
    }
    call.end()
    assert.equal((await answers.next()).done, true)
    assert.deepEqual(heard, ['re:one', 're:two', 're:three'])
  })

  test('an error of containerd keeps its status, its text and its trailers', async () => {
    await scene.start({
      Fails: (call) => {
        const metadata = new Metadata()
        metadata.set('x-detail', 'why')
        call.emit('error', { code: status.NOT_FOUND, details: 'kein Bild: ä', metadata })
      },
    })
    await assert.rejects(scene.ask('Fails', Buffer.alloc(1)), (error: ServiceError) => {
      assert.deepEqual([error.code, error.details], [status.NOT_FOUND, 'kein Bild: ä'])
      assert.deepEqual(error.metadata.get('x-detail'), ['why'])
      return true
    })
  })

  test('a call that its client cancels is canceled at containerd', async () => {
    const begun = Promise.withResolvers<void>()
    const canceled = Promise.withResolvers<void>()
    await scene.start({
      Waits: (call) => {
        begun.resolve()
        call.on('cancelled', canceled.resolve)
      },
    })
    const call = scene.client.makeBidiStreamRequest<Buffer, Buffer>(path('Waits'), same, same)
    call.on('error', () => undefined)
    call.write(Buffer.from('x'))
    await begun.promise
    call.cancel()
    await canceled.promise
  })

  test('without containerd a call fails with UNAVAILABLE, and the next one works once containerd runs', async () => {
    await assert.rejects(scene.ask('Late', Buffer.alloc(1)), (error: ServiceError) => {
      assert.equal(error.code, status.UNAVAILABLE)
      assert.match(error.details, /containerd does not answer/)
      return true
    })
    await scene.start({
      Late: (call) => {
        call.on('data', () => call.write(Buffer.from('here')))
        call.on('end', () => {
          call.end()
        })
      },
    })
    assert.equal(String(await scene.ask('Late', Buffer.alloc(1))), 'here')
  })

  test('a call during which containerd dies fails with UNAVAILABLE', async () => {
    await scene.start({ Waits: (call) => call.on('data', () => scene.kill()) })
    await assert.rejects(scene.ask('Waits', Buffer.alloc(1)), { code: status.UNAVAILABLE })
  })

  test('methods of other services of containerd are refused', async () => {
    const { promise, resolve } = Promise.withResolvers<ServiceError | null>()
    const other = '/runtime.v1.RuntimeService/RunPodSandbox'
    scene.client.makeUnaryRequest(other, same, same, Buffer.alloc(0), (error) => {
      resolve(error)
    })
    assert.equal((await promise)?.code, status.UNIMPLEMENTED)
  })

  test('the credentials of a pull are held for its image while the pull is in progress, and no longer', async () => {
    const image = parseReference('registry.test/team/app:1')
    const other = parseReference('registry.test/team/app:2')
    const request = pullRequest('registry.test/team/app:1', {
      username: 'anna',
      password: 'x'.repeat(20_000),
    })
    const found: unknown[] = []
    await scene.start({
      PullImage: (call) => {
        call.on('data', (bytes: Buffer) => {
          const answer = async () => {
            assert.ok(bytes.equals(request))
            const [source] = scene.held.of(image)
            const repository = { repository: 'team/app' }
            found.push(
              (await source?.find('registry.test', repository))?.kind,
              await source?.find('mirror.test', repository),
              await source?.find('registry.test', { repository: 'team/other' }),
              scene.held.of(other).length,
            )
            call.write(Buffer.from('done'))
            call.end()
          }
          void answer()
        })
      },
    })
    await scene.ask('PullImage', request)
    assert.deepEqual(found, ['password', undefined, undefined, 0])
    while (scene.held.of(image).length > 0) await new Promise(setImmediate)
  })
})

describe('the credentials of a pull', () => {
  const read = (image: string, auth: Auth) => readPullRequest(frame(pullRequest(image, auth)))?.credential

  test('a pull has its credential in any of the fields that CRI has for it', () => {
    const from = 'the client of CRI'
    const password = { kind: 'password', username: 'anna', password: 'ge:heim', from }
    assert.deepEqual(read('app', { username: 'anna', password: 'ge:heim' }), password)
    const auth = Buffer.from('anna:ge:heim\0\0').toString('base64')
    assert.deepEqual(read('app', { auth }), password)
    assert.deepEqual(read('app', { identityToken: 't1' }), { kind: 'identity-token', token: 't1', from })
    assert.deepEqual(read('app', { registryToken: 't2' }), { kind: 'registry-token', token: 't2', from })
    for (const none of [{}, { password: 'x' }, { auth: '!' }]) assert.equal(read('app', none), undefined)
  })

  test('a pull names the registry that its credential is for, if it is not that of the image', () => {
    const account = { username: 'a', password: 'b' }
    for (const server of ['https://index.docker.io/v1/', 'docker.io', 'https://registry-1.docker.io'])
      assert.notEqual(read('busybox', { ...account, serverAddress: server }), undefined, server)
    for (const server of ['https://quay.io', 'https://harbor', 'harbor/v1'])
      assert.equal(read('busybox', { ...account, serverAddress: server }), undefined, server)
    assert.notEqual(read('r.test:5000/x', { ...account, serverAddress: 'r.test:5000' }), undefined)
  })

  test('a limit that no timer can keep does not end a credential at once', async () => {
    const held = new PullCredentials(1000 * 3_600_000)
    const image = parseReference('registry.test/team/app:1')
    using _held = held.hold(image, { kind: 'password', username: 'a', password: 'b', from: 'test' })
    await sleep(20)
    assert.equal(held.of(image).length, 1)
  })

  test('a body that is no pull has no credential', () => {
    const request = pullRequest('app', { username: 'a' })
    const compressed = Buffer.concat([Buffer.from([1]), frame(request).subarray(1)])
    const id = pullRequest(`sha256:${'a'.repeat(64)}`, { username: 'a' })
    for (const body of [
      Buffer.alloc(0),
      Buffer.alloc(3),
      compressed,
      frame(Buffer.from([255, 255])),
      frame(id),
    ])
      assert.equal(readPullRequest(body), undefined)
  })
})
