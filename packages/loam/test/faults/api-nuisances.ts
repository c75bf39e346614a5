// Clients of the daemon's API that misbehave: they vanish, send nonsense, or never read.
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Confirmed } from './api-clients.ts'
import type { Random } from './random.ts'

const HEAD = 'HTTP/1.1\r\nhost: x\r\n'

const NONSENSE: readonly string[] = [
  '\u0016\u0003\u0001 not HTTP',
  'GET /v1/images HTTP/9.9\r\n\r\n',
  `GET /v1/images ${HEAD}${'a: b\r\n'.repeat(5000)}\r\n`,
  `POST /v1/images/pull ${HEAD}content-type: application/json\r\ncontent-length: 9\r\n\r\n{"image":`,
  `POST /v1/images/pull ${HEAD}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`,
  `POST /v1/images/pull ${HEAD}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
  `${`GET /v1/images ${HEAD}\r\n`.repeat(200)}rubbish`,
  `GET //../../etc/passwd ${HEAD}\r\n`,
  `POST /v1/command ${HEAD}connection: upgrade\r\nupgrade: loam-command\r\n\r\n{"nonsense":1}\n\u0000\n`,
  `DELETE /v1/containers?id=%00&id=.. ${HEAD}\r\n`,
]

const json = (method: string, path: string, body: object) => {
  const text = JSON.stringify(body)
  return `${method} ${path} ${HEAD}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}

export interface NuisanceOptions {
  readonly socket: string
  readonly images: readonly string[]
  readonly confirmed: Confirmed
}

/** Misbehaves until the signal fires. Never rejects: whatever it is answered is right. */
export async function misbehave(options: NuisanceOptions, random: Random, stop: AbortSignal): Promise<void> {
  const open: Socket[] = []
  while (!stop.aborted) {
    const kind = random.weighted({ vanish: 40, nonsense: 30, 'never read': 30 })
    const socket = connect(options.socket)
    socket.on('error', () => undefined)
    // None of them reads.
    socket.pause()
    if (kind === 'vanish') {
      socket.write(longRequest(options, random))
      await sleep(random.below(200))
      socket.destroy()
      continue
    }
    socket.write(kind === 'nonsense' ? random.pick(NONSENSE) : unreadRequest(options, random))
    open.push(socket)
    await sleep(random.below(100))
  }
  for (const socket of open) socket.destroy()
}

/** What takes a while, and leaves nothing behind when its client is gone. */
function longRequest({ images, confirmed }: NuisanceOptions, random: Random): string {
  const image = random.pick(images)
  const id = confirmed.newId()
  const kind = random.weighted({ pull: 3, provision: 5, fsck: 1, volumes: 1 })
  switch (kind) {
    case 'pull':
      return json('POST', '/v1/images/pull', { image })
    case 'fsck':
      return json('POST', '/v1/fsck', {})
    case 'provision':
      confirmed.unsure.add(id)
      return json('POST', '/v1/containers/provision', { image, id, backend: random.pick(['erofs', 'copy']) })
    case 'volumes':
      confirmed.unsure.add(id)
      return json('POST', '/v1/containers/provision-with-volumes', {
        image,
        id,
        volumes: [{ image, target: '/volume' }],
      })
  }
}

/** What is answered with more than a client that never reads takes. */
function unreadRequest({ confirmed }: NuisanceOptions, random: Random): string {
  const [id = 'none'] = random.shuffle([...confirmed.containers.keys()])
  return random.pick([
    `GET /v1/events ${HEAD}\r\n`,
    `GET /v1/export?format=tar&name=${id} ${HEAD}\r\n`,
    `GET /v1/df ${HEAD}\r\n`.repeat(20),
  ])
}
