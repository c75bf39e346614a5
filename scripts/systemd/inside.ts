// Runs inside of the machine that machine.ts boots: installs the daemon as a service of a real systemd, and does to it what happens to services.
// Writes a line for each thing that it has seen, and `all is right` or what is wrong.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

const SOCKET = '/run/loam/loamd.sock'
const [programs = ''] = process.argv.slice(2)

function run(file: string, ...args: readonly string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim()
}

const property = (name: string) => run('systemctl', 'show', '--value', '--property', name, 'loamd.service')
const mainPid = () => Number(property('MainPID'))
const loamd = (...args: readonly string[]) => run(process.execPath, `${programs}/loamd/bin/loamd.js`, ...args)

function see(what: string, isSo: boolean, found: unknown = ''): void {
  console.log(`${isSo ? 'seen' : 'WRONG'}: ${what} ${String(found)}`)
  if (!isSo) process.exitCode = 1
}

async function ask(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>()
  const asked = request(
    { socketPath: SOCKET, method, path, agent: false, headers: { 'content-type': 'application/json' } },
    (response) => {
      const read = async () => {
        const all = await text(response)
        if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode} ${all}`)
        resolve(JSON.parse(all) as Record<string, unknown>)
      }
      read().catch(reject)
    },
  )
  asked.on('error', reject)
  asked.end(body === undefined ? undefined : JSON.stringify(body))
  return promise
}

const servingPid = async () => Number((await ask('GET', '/v1/version'))['pid'])

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 120_000; Date.now() < end; await sleep(200)) if (await isSo()) return
  throw new Error(`waited in vain until ${what}`)
}

async function installAndUse(): Promise<string> {
  console.log(loamd('install'))
  await until('the service is active', () => property('ActiveState') === 'active')
  see(
    'install starts the service, and the service manager knows its process',
    (await servingPid()) === mainPid(),
    mainPid(),
  )
  await ask('POST', '/v1/images/put', { address: 'oci:/opt/check/layout:x', name: 'example.test/x:1' })
  const made = await ask('POST', '/v1/containers/provision', { image: 'example.test/x:1', id: 'web' })
  const rootfs = String(made['rootfsPath'])
  see(
    'the machine sees the mount of a root filesystem',
    readFileSync('/proc/self/mountinfo', 'utf8').includes(rootfs),
  )
  const ids = '0:2000000000:65536'
  const userNamespace = { uids: ids, gids: ids }
  const mapped = await ask('POST', '/v1/containers/provision', {
    image: 'example.test/x:1',
    id: 'mapped',
    userNamespace,
  })
  const owner = statSync(`${String(mapped['rootfsPath'])}/hello`).uid
  see('the service may map IDs for a user namespace', owner === 2_000_000_000, String(owner))
  const { kernel, backends } = await ask('GET', '/v1/doctor')
  see(
    'its backend is',
    made['backend'] === 'erofs',
    `${String(made['backend'])} ${String(kernel)} ${JSON.stringify(backends)}`,
  )
  return rootfs
}

async function activateBySocket(rootfs: string): Promise<void> {
  run('systemctl', 'stop', 'loamd.service')
  see(
    'stopped by systemctl, the service is inactive',
    property('ActiveState') === 'inactive',
    property('Result'),
  )
  see('its root filesystem stays', readFileSync(`${rootfs}/hello`, 'utf8') === 'a file')
  const pid = await servingPid()
  see('a request to the socket starts it', pid === mainPid(), pid)
}

/** Asks one request after the other while `act` runs, and tells how many were answered. */
async function underRequests(act: () => Promise<void>): Promise<{ answered: number; failed: string[] }> {
  const seen = { answered: 0, failed: [] as string[] }
  const over = new AbortController()
  const client = async () => {
    while (!over.signal.aborted) {
      try {
        await ask('GET', '/v1/images')
        seen.answered += 1
      } catch (error) {
        seen.failed.push(String(error))
      }
    }
  }
  const clients = [client(), client(), client()]
  await act()
  over.abort()
  await Promise.all(clients)
  return seen
}

async function reload(): Promise<void> {
  const before = mainPid()
  const { answered, failed } = await underRequests(async () => {
    run('systemctl', 'reload', 'loamd.service')
    await until('another process is the main one', () => mainPid() !== before)
    await sleep(1000)
  })
  see(
    'a reload makes another process the main one',
    (await servingPid()) === mainPid(),
    `${before} to ${mainPid()}`,
  )
  see(
    'no request failed meanwhile',
    failed.length === 0 && answered > 0,
    `${answered} answered ${failed.join()}`,
  )
  see(
    'it is still active, without a restart',
    property('ActiveState') === 'active' && property('NRestarts') === '0',
  )
  await until('the old process has ended', () => spawnSync('kill', ['-0', String(before)]).status !== 0)
}

async function crash(rootfs: string): Promise<void> {
  const before = mainPid()
  process.kill(before, 'SIGKILL')
  const startMs = performance.now()
  const pid = await servingPid().catch(async () => servingPid())
  see(
    'after kill -9 the next request is answered by another process',
    pid !== before,
    `${Math.round(performance.now() - startMs)} ms`,
  )
  await until('it is active again', () => property('ActiveState') === 'active')
  see('systemd restarted it', property('NRestarts') === '1', property('NRestarts'))
  see('its root filesystem stays', readFileSync(`${rootfs}/hello`, 'utf8') === 'a file')
}

async function hang(): Promise<void> {
  mkdirSync('/etc/systemd/system/loamd.service.d', { recursive: true })
  writeFileSync(
    '/etc/systemd/system/loamd.service.d/check.conf',
    '[Service]\nWatchdogSec=15\nTimeoutAbortSec=5\n',
  )
  run('systemctl', 'daemon-reload')
  run('systemctl', 'restart', 'loamd.service')
  const before = mainPid()
  await sleep(20_000)
  see('a daemon that works satisfies the watchdog', mainPid() === before, property('WatchdogUSec'))
  process.kill(before, 'SIGSTOP')
  await until('the watchdog restarts it', () => ![before, 0].includes(mainPid()))
  const pid = await servingPid()
  see('one that hangs is ended by the watchdog, and started again', pid !== before, property('Result'))
}

try {
  const rootfs = await installAndUse()
  await activateBySocket(rootfs)
  await reload()
  await crash(rootfs)
  await hang()
  console.log(run('systemd-analyze', '--no-pager', 'security', 'loamd.service').split('\n').at(-1))
  await ask('DELETE', '/v1/containers?id=web')
  console.log(loamd('uninstall'))
  see('uninstalled, nothing is left of it', spawnSync('systemctl', ['cat', 'loamd.service']).status !== 0)
} catch (error) {
  see('the end', false, error instanceof Error ? error.stack : error)
  console.log(run('journalctl', '--no-pager', '-u', 'loamd', '-n', '60'))
}
console.log(process.exitCode === undefined ? 'all is right' : 'something is wrong')
