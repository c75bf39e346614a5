// The limits of a process in a container, for this machine and other containers, tested with the real runtime and kernel.
import assert from 'node:assert/strict'
import { existsSync, readlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { constants } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { cgroupOf } from '../../src/containers/bundle.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { systemCallProgram } from '../support/system-call.ts'
import { busyboxEntries, listen, must, World } from '../support/world.ts'

const { EAFNOSUPPORT, EPERM, ENOSYS } = constants.errno
const CLONE_NEWUSER = 0x10000000
const CLONE_NEWNS = 0x20000

/** By their numbers on amd64, with arguments and the kernel's answer. */
const REFUSED_CALLS: Readonly<
  Record<string, readonly [number: number, args: readonly number[], error: number]>
> = {
  'unshare-user': [272, [CLONE_NEWUSER], EPERM],
  'unshare-mounts': [272, [CLONE_NEWNS], EPERM],
  'clone-user': [56, [CLONE_NEWUSER, 0], EPERM],
  clone3: [435, [0, 0], ENOSYS],
  setns: [308, [0, 0], EPERM],
  mount: [165, [0, 0, 0, 0, 0], EPERM],
  fsopen: [430, [0, 0], EPERM],
  'open-tree': [428, [0, 0, 0], EPERM],
  pivot_root: [155, [0, 0], EPERM],
  keyctl: [250, [0, -3, 0], EPERM],
  'add-key': [248, [0, 0, 0, 0, 0], EPERM],
  bpf: [321, [5, 0, 0], EPERM],
  'perf-event-open': [298, [0, 0, -1, -1, 0], EPERM],
  userfaultfd: [323, [1], EPERM],
  'io-uring': [425, [1, 0], EPERM],
  'open-by-handle': [304, [0, 0, 0], EPERM],
  'read-others': [310, [1, 0, 0, 0, 0, 0], EPERM],
  kexec: [246, [0, 0, 0, 0], EPERM],
  'load-module': [175, [0, 0, 0], EPERM],
  reboot: [169, [0, 0, 0, 0], EPERM],
  personality: [135, [0x40000], EPERM],
  'af-alg': [41, [38, 5, 0], EPERM],
  'af-vsock': [41, [40, 1, 0], EPERM],
  // The kernel takes the lower half.
  'af-alg-wide': [41, [2 ** 32 + 38, 5, 0], EPERM],
  'af-vsock-wide': [41, [2 ** 32 + 40, 1, 0], EPERM],
  'raw-socket': [41, [2, 3, 1], EPERM],
  'packet-socket': [41, [17, 3, 0], EPERM],
  'set-time': [164, [0, 0], EPERM],
  syslog: [103, [3, 0, 0], EPERM],
}
/** The results of the same calls without a filter, for some whose result is the same on every machine. */
const ALLOWED_WITHOUT_FILTER: readonly string[] = ['unshare-user', 'keyctl', 'personality']

describe('a container of loam run', { skip: process.arch !== 'x64' }, () => {
  let world: World
  let image: string

  const run = (...args: readonly string[]) => {
    const { status, stdout, stderr } = world.loam('--quiet', 'run', ...args)
    return { status, stdout, stderr }
  }
  /** Runs a shell line with options before it, and returns its output. */
  const said = (line: string, ...options: readonly string[]) => {
    const { stdout, stderr } = run(...options, image, '/bin/sh', '-c', line)
    assert.equal(stderr, '')
    return stdout
  }

  before(() => {
    world = new World()
    const layout = join(world.folder, 'layout')
    const applets = 'sh cat ls id readlink grep nc mknod sleep sed wc true mkdir'.split(' ')
    const calls = Object.entries(REFUSED_CALLS).map(([name, [number, args]]) => ({
      name: `calls/${name}`,
      mode: 0o755,
      data: systemCallProgram(number, args),
    }))
    // It becomes root, if it may.
    const setuid = { name: 'setuid', mode: 0o4755, data: systemCallProgram(105, [0]) }
    const tar = buildTar([
      ...busyboxEntries(applets),
      { name: 'calls/' },
      ...calls,
      setuid,
      { name: 'etc/' },
      { name: 'tmp/', mode: 0o1777 },
    ])
    writeOciLayout(layout, { app: buildImage({ tars: [tar], config: { Env: ['PATH=/bin'] } }) })
    image = `oci:${layout}:app`
    world.loam('pull', image)
  })
  after(() => {
    assert.deepEqual(world.mounts(), [])
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })

  test('a container makes no system call that leads out of it, and does without the filter', () => {
    const tryAll = 'for f in /calls/*; do $f; echo ${f#/calls/} $?; done'
    const answers = (text: string) => text.trim().split('\n').toSorted()
    assert.deepEqual(
      answers(said(tryAll)),
      answers(
        Object.entries(REFUSED_CALLS)
          .map(([name, [, , error]]) => `${name} ${error}`)
          .join('\n'),
      ),
    )
    const without = new Set(answers(said(tryAll, '--security-opt', 'seccomp=unconfined')))
    for (const name of ALLOWED_WITHOUT_FILTER) assert.ok(without.has(`${name} 0`), name)
    assert.ok(without.has(`af-vsock 0`) || without.has(`af-vsock ${EAFNOSUPPORT}`))
  })

  test('a container has the system calls of a named profile, and an invalid profile is refused before anything is created', () => {
    const profile = join(world.folder, 'profile.json')
    const refuse = { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }
    writeFileSync(profile, JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [refuse] }))
    const line = 'mkdir /tmp/x 2>/dev/null || echo no mkdir; /calls/unshare-user && echo unshare'
    assert.equal(said(line, '--security-opt', `seccomp=${profile}`), 'no mkdir\nunshare\n')
    writeFileSync(profile, '{"defaultAction": "SCMP_ACT_NOTIFY"}')
    const { status, stdout, stderr } = run('--security-opt', `seccomp=${profile}`, 'oci:/nowhere:x')
    assert.deepEqual([status, stdout], [125, ''])
    assert.match(
      stderr,
      /^loam: read seccomp profile .*profile.json: parse .*defaultAction: is not an action/,
    )
  })

  test("a container reaches no service of this machine unless it is in this machine's network", async () => {
    const server = createServer((socket) => socket.end('hello\n'))
    const port = await listen(server)
    const abstract = await listenAbstract('loam-confine')
    try {
      const line = `readlink /proc/self/ns/net; grep -c @loam-confine /proc/net/unix; nc -w 2 127.0.0.1 ${port} </dev/null`
      const start = async (...options: readonly string[]) =>
        (await world.loamAsync('--quiet', 'run', ...options, image, '/bin/sh', '-c', line)).stdout
      const [own = '', ...others] = (await start()).trim().split('\n')
      assert.notEqual(own, readlinkSync('/proc/self/ns/net'))
      assert.deepEqual(others, ['0'])
      assert.deepEqual((await start('--network', 'host')).trim().split('\n'), [
        readlinkSync('/proc/self/ns/net'),
        '1',
        'hello',
      ])
    } finally {
      server.close()
      abstract.close()
    }
  })

  test('a container has a loopback device that works in a network of its own, and its own host name', () => {
    const line = [
      // A listener whose input ends may end before it has read anything.
      '(sleep 1000 | nc -l -p 80 >/tmp/got) & for i in $(seq 600); do echo hello | nc localhost 80 && break; sleep 0.1; done 2>/dev/null',
      "for i in $(seq 600); do [ -s /tmp/got ] && break; sleep 0.1; done; cat /tmp/got; ls /sys/class/net; sed -n '$p' /etc/hosts; ls /etc",
    ].join('; ')
    assert.equal(said(line, '--id', 'own'), 'hello\nlo\n127.0.1.1\town\nhosts\n')
  })

  test('a container may join an existing network', () => {
    const path = join(world.folder, 'network')
    writeFileSync(path, '')
    must('unshare', `--net=${path}`, 'true')
    try {
      const made = must('nsenter', `--net=${path}`, 'readlink', '/proc/self/ns/net')
      assert.equal(said('readlink /proc/self/ns/net', '--network', `ns:${path}`), made)
    } finally {
      must('umount', path)
    }
  })

  test('a container has at most as many processes as it may, and its cgroup is removed with it', async () => {
    const line = 'i=0; while [ $i -lt 40 ]; do sleep 3 & i=$((i+1)); done; echo all'
    const bundle = join(world.state, 'bundles', 'bomb')
    const running = world.loamAsync(
      ...['--quiet', 'run', '--id', 'bomb', '--pids-limit', '20', image, '--', '/bin/sh', '-c', line],
    )
    const hadCgroup = await Promise.race([
      running.then(() => false),
      appears(() => cgroupsOf(bundle).length > 0),
    ])
    const bomb = await running
    assert.equal(bomb.stdout, '')
    assert.match(bomb.stderr, /can't fork: Resource temporarily unavailable/)
    assert.deepEqual([hadCgroup, cgroupsOf(bundle)], [true, []])
  })

  test('a container gets no rights from setuid programs unless it may, and has the requested capabilities', () => {
    const sets = 'grep -E "Cap(Eff|Bnd|Amb)|NoNew" /proc/self/status'
    const asUser = (...options: readonly string[]) =>
      said(`/setuid; echo $?; ${sets}`, '--user', '7', ...options)
        .trim()
        .split('\n')
        .map((text) => text.replace(/^\w+:\s+0*/, ''))
    assert.deepEqual(asUser('--cap-add', 'NET_RAW'), [`${EPERM}`, '2000', '800425fb', '2000', '1'])
    assert.deepEqual(asUser('--security-opt', 'no-new-privileges=false', '--cap-drop=CHOWN'), [
      '0',
      '',
      '800405fa',
      '',
      '',
    ])
  })

  test('a container finds no device, no kernel setting and no information about others on the machine', () => {
    const line = `
      i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done
      [ $(readlink /proc/self/ns/cgroup) = '${readlinkSync('/proc/self/ns/cgroup')}' ] && echo cgroups of the machine
      mknod /tmp/disk b 8 0 2>/dev/null && echo made a device
      for path in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/fs/binfmt_misc/register \\
        /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent /sys/kernel/mm/transparent_hugepage/enabled /proc/irq/0/smp_affinity
      do (echo x > $path) 2>/dev/null && echo wrote $path; done
      for path in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /sys/firmware/* /dev/mem /dev/kmsg
      do [ -n "$(cat $path 2>/dev/null)" ] && echo read $path; done
      echo $(ls /dev | grep -v core)`
    assert.equal(said(line), 'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n')
  })

  test('a container cannot write to the file that is its standard input', () => {
    const file = join(world.folder, 'input')
    writeFileSync(file, 'secret')
    const command = [process.execPath, ...world.args('--quiet', 'run', image, '/bin/sh', '-c')].join(' ')
    const read = must('sh', '-c', `${command} 'cat; (echo x >/proc/self/fd/0) 2>/dev/null' <${file} || true`)
    assert.equal(read, 'secret')
    assert.equal(must('cat', file), 'secret')
  })

  test('a run with an option of other tools that Loam does not have is refused with a hint', () => {
    const { status, stderr } = run('--privileged', image)
    assert.equal(status, 125)
    assert.match(
      stderr,
      /^loam: unknown option '--privileged'\nhint: .*--cap-add ALL --security-opt seccomp=unconfined/,
    )
  })

  /** The name of a socket that is not in the file system begins with NUL. */
  async function listenAbstract(name: string): Promise<Server> {
    const server = createServer()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    server.listen({ path: `\0${name}` }, resolve)
    await promise
    return server
  }
})

/** Directories of a container's cgroup, which may be of either version. */
function cgroupsOf(bundlePath: string): string[] {
  return ['/sys/fs/cgroup/pids', '/sys/fs/cgroup']
    .map((path) => join(path, cgroupOf(bundlePath)))
    .filter((path) => existsSync(path))
}

/** Waits until something is so. */
async function appears(isSo: () => boolean): Promise<true> {
  while (!isSo()) await sleep(10)
  return true
}
