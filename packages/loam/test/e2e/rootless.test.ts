// Images with files of many owners, and a user who is not root: the same tree as of umoci --rootless.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { programPath } from '../support/test-tools.ts'
import { busyboxEntries, type CommandResult, must, World } from '../support/world.ts'

const BIN = programPath('loam')
const NOBODY = 65534
const OWNER = 'user.rootlesscontainers'

describe('a user who is not root, without a user namespace', () => {
  let world: World
  let image: string
  let home: string

  const asUser = (program: string, ...args: readonly string[]): CommandResult =>
    asUserWith({}, program, ...args)
  const asUserWith = (env: NodeJS.ProcessEnv, program: string, ...args: readonly string[]): CommandResult =>
    spawnSync(program, args, {
      uid: NOBODY,
      gid: NOBODY,
      encoding: 'utf8',
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        XDG_RUNTIME_DIR: join(home, 'run'),
        LOAM_USER_NAMESPACE: 'never',
        ...env,
      },
      maxBuffer: 64 << 20,
    })
  const loam = (...args: readonly string[]) => asUser(process.execPath, BIN, ...args)

  before(() => {
    world = new World()
    chmodSync(world.folder, 0o755)
    home = join(world.folder, 'home')
    mkdirSync(join(home, 'run'), { recursive: true })
    for (const path of [home, join(home, 'run')]) chownSync(path, NOBODY, NOBODY)
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex')
    const tar = buildTar([
      { name: './', mode: 0o555 },
      { name: 'root', data: 'x' },
      { name: 'dir/', uid: 1000, gid: 0, mode: 0o555 },
      { name: 'dir/own', data: 'x', uid: NOBODY, gid: NOBODY },
      { name: 'dir/group', data: 'x', gid: 5 },
      { name: 'dir/read-only', data: 'x', uid: 7, gid: 300, mode: 0o444 },
      { name: 'dir/linked', type: 'hardlink', linkName: 'dir/read-only' },
      { name: 'setuid', data: 'x', mode: 0o4755, uid: 3 },
      { name: 'closed/', mode: 0 },
      { name: 'closed/in', data: 'y', mode: 0 },
      { name: 'link', type: 'symlink', linkName: 'root', uid: 5, gid: 5 },
      { name: 'device', type: 'character', deviceMajor: 1, deviceMinor: 3, mode: 0o666, uid: 9 },
      { name: 'block', type: 'block', deviceMajor: 7, deviceMinor: 0, mode: 0o600 },
      { name: 'fifo', type: 'fifo', uid: 3 },
      { name: 'capability', data: 'x', xattrs: { 'security.capability': capability, 'user.kept': 'yes' } },
      { name: 'liar', data: 'x', xattrs: { [OWNER]: Buffer.from('080710ac02', 'hex') } },
    ])
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: buildImage({ tars: [tar] }) })
    must('chmod', '-R', 'a+rX', layout)
    image = `oci:${layout}:app`
  })
  after(() => {
    world[Symbol.dispose]()
  })

  test('a user who is not root has a store at home, and the files and recorded owners of umoci --rootless', () => {
    const made = loam('--json', 'provision', '--id', 'a', image)
    assert.equal(made.status, 0, made.stderr)
    const { rootfs, backend } = JSON.parse(made.stdout)
    assert.equal(backend, 'copy')
    assert.ok(rootfs.startsWith(join(home, '.local/share/loam')), rootfs)
    const unpacked = asUser('umoci', 'unpack', '--rootless', '--image', image.slice(4), join(home, 'umoci'))
    assert.equal(unpacked.status, 0, unpacked.stderr)
    const records = (folder: string) =>
      must('getfattr', '-R', '-h', '-d', '-e', 'hex', '-m', '^user', '--absolute-names', folder).replaceAll(
        folder,
        '',
      )
    // umoci sets modes first, and cannot write to read-only files then.
    const ours = records(rootfs)
    assert.match(ours, /# file: \/dir\nuser.rootlesscontainers=0x08e80710ffffffff0f\n/)
    assert.match(ours, /# file: \/dir\/read-only\nuser.rootlesscontainers=0x080710ac02\n/)
    for (const record of records(join(home, 'umoci/rootfs')).split('\n\n')) {
      if (!record.includes('liar')) assert.ok(ours.includes(record), record)
    }
    assert.doesNotMatch(ours, /liar/)
    const files = (folder: string) =>
      must('find', folder, '-mindepth', '1', '-printf', '%P %y %m %U %G %n %s %l\n').split('\n').toSorted()
    assert.deepEqual(files(rootfs), files(join(home, 'umoci/rootfs')))
  })

  test('a user who is not root has a store without XDG_RUNTIME_DIR, too', () => {
    const own = join(home, 'cron')
    mkdirSync(own)
    chownSync(own, NOBODY, NOBODY)
    const env = { HOME: own, XDG_RUNTIME_DIR: undefined }
    const made = asUserWith(env, process.execPath, BIN, 'put', image, 'app:1')
    assert.equal(made.status, 0, made.stderr)
    const listed = asUserWith(env, process.execPath, BIN, 'images', '--format', '{{.Tag}}')
    assert.match(listed.stdout, /^1$/m, listed.stderr)
  })

  test('a user who is not root and has no home directory has to name the store, in a directory that is its own', () => {
    const own = join(home, 'named')
    for (const HOME of ['', 'relative', undefined]) {
      const env = { HOME, XDG_RUNTIME_DIR: '' }
      const none = asUserWith(env, process.execPath, BIN, 'images')
      assert.match(
        none.stderr,
        /this user has no home directory\nhint: Name a directory for the store: --root/,
      )
      const named = asUserWith(env, process.execPath, BIN, '--root', own, 'config')
      assert.equal(named.status, 0, named.stderr)
      assert.ok(named.stdout.includes(join(own, 'state')), named.stdout)
    }
    const elsewhere = asUserWith({ HOME: '/nonexistent' }, process.execPath, BIN, 'images')
    assert.match(elsewhere.stderr, /make directory \/nonexistent: .*\nhint: Choose --root \(LOAM_ROOT\)/)
  })

  test('a user who is not root exports a root filesystem with the recorded owners, and removes read-only directories', () => {
    const layout = join(world.folder, 'readable')
    const tar = buildTar([
      { name: './', mode: 0o555 },
      { name: 'dir/', uid: 1000, gid: 0, mode: 0o555 },
      { name: 'dir/a', data: 'x', uid: 7, gid: 300, mode: 0o444 },
      { name: 'dir/b', data: 'x' },
    ])
    writeOciLayout(layout, { app: buildImage({ tars: [tar] }) })
    must('chmod', '-R', 'a+rX', layout)
    assert.equal(loam('provision', '--id', 'b', `oci:${layout}:app`).status, 0)
    const output = join(home, 'b.tar')
    assert.equal(loam('export', '--format', 'tar', 'b', output).status, 0)
    const listed = must('tar', '--numeric-owner', '--xattrs', '-tvf', output).split('\n').filter(Boolean)
    assert.deepEqual(
      listed
        .map((line) => line.split(/\s+/))
        .map(([mode, owner, , , , name]) => `${name} ${mode?.replace('*', '')} ${owner}`),
      ['./ dr-xr-xr-x 0/0', './dir/ dr-xr-xr-x 1000/0', './dir/a -r--r--r-- 7/300', './dir/b -rw-r--r-- 0/0'],
    )
    const { status, stderr } = loam('destroy', 'a', 'b')
    assert.equal(status, 0, stderr)
    const store = join(home, '.local/share/loam')
    assert.deepEqual(readdirSync(join(store, 'trash')), [])
    assert.deepEqual(JSON.parse(loam('--json', 'ps').stdout), [])
  })

  test('a user who is not root runs a confined process under its own ID, whose limit of processes works without a cgroup', () => {
    const layout = join(world.folder, 'shell')
    const tar = buildTar([...busyboxEntries(['sh', 'id', 'sleep', 'grep']), { name: 'etc/' }])
    writeOciLayout(layout, { app: buildImage({ tars: [tar], config: { Env: ['PATH=/bin'] } }) })
    must('chmod', '-R', 'a+rX', layout)
    const run = (options: readonly string[], line: string) =>
      loam('run', ...options, `oci:${layout}:app`, '/bin/sh', '-c', line)
    const line =
      'id -u; grep "" /proc/self/uid_map; grep -E "^Seccomp:|NoNew" /proc/self/status; echo x >/etc/x && echo wrote'
    const { stdout, stderr } = run([], line)
    assert.deepEqual(
      stdout.replaceAll(/[ \t]+/g, ' ').split('\n'),
      ['0', ` 0 ${NOBODY} 1`, 'NoNewPrivs: 1', 'Seccomp: 2', 'wrote', ''],
      stderr,
    )
    assert.match(stderr, /^note: without root, RLIMIT_NPROC enforces the limit of 2048 processes/m)
    const bomb = run(
      ['--pids-limit', '9'],
      'i=0; while [ $i -lt 20 ]; do sleep 1 & i=$((i+1)); done; echo all',
    )
    assert.match(bomb.stderr, /can't fork: Resource temporarily unavailable/)
    assert.equal(bomb.stdout, '')
    const other = run(['--user', '5'], 'id')
    assert.equal(other.status, 125)
    assert.match(other.stderr, /without root a container has one user, 0:0\nhint: Add --user 0:0/)
    assert.deepEqual(JSON.parse(loam('--json', 'ps').stdout), [])
  })
})
