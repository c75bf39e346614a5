// Users who are not root and work in a user namespace: one with subordinate IDs, and one with a single ID.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { programPath } from '../support/test-tools.ts'
import { busyboxEntries, type CommandResult, must, World } from '../support/world.ts'

const BIN = programPath('loam')
/** First subordinate ID of `mapped`. */
const FIRST = 1_000_000
const USERS = { mapped: 4201, alone: 4202 } as const

type User = keyof typeof USERS

describe('users who are not root, in a user namespace', () => {
  let world: World
  let image: string

  const home = (user: User) => join(world.folder, user)
  const loam = (user: User, ...args: readonly string[]): CommandResult =>
    spawnSync(process.execPath, [BIN, ...args], {
      uid: USERS[user],
      gid: USERS[user],
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] ?? '', HOME: home(user), XDG_RUNTIME_DIR: join(home(user), 'run') },
    })
  const succeed = (user: User, ...args: readonly string[]): string => {
    const { status, stdout, stderr } = loam(user, ...args)
    assert.equal(status, 0, stderr)
    return stdout
  }
  const owners = (user: User, ...exported: readonly string[]) => {
    const output = join(home(user), 'out.tar')
    succeed(user, 'export', '--force', '--format', 'tar', ...exported, output)
    const lines = must('tar', '--numeric-owner', '-tvf', output).split('\n')
    return Object.fromEntries(
      lines.map((line) => line.split(/\s+/)).map(([, owner, , , , name]) => [name ?? '', owner]),
    )
  }

  before(() => {
    world = new World()
    chmodSync(world.folder, 0o755)
    createUsers(world.folder)
    for (const [user, id] of Object.entries(USERS)) {
      mkdirSync(join(world.folder, user, 'run'), { recursive: true })
      for (const path of ['', 'run']) chownSync(join(world.folder, user, path), id, id)
    }
    const tars = [
      buildTar([
        ...busyboxEntries(['sh', 'id', 'rm', 'cat', 'mkdir']),
        { name: 'etc/' },
        { name: 'etc/passwd', data: 'root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n' },
        { name: 'srv/', uid: 33, gid: 33 },
        { name: 'srv/page', data: 'old', uid: 33, gid: 33, mode: 0o600 },
        { name: 'srv/gone', data: 'x', uid: 33, gid: 33 },
        { name: 'far', data: 'x', uid: 3_000_000, gid: 7 },
        { name: 'device', type: 'character', deviceMajor: 1, deviceMinor: 3 },
        { name: 'replaced/' },
        { name: 'replaced/lower', data: 'x' },
      ]),
      buildTar([
        { name: 'replaced/', uid: 5 },
        { name: 'replaced/.wh..wh..opq' },
        { name: 'replaced/upper', data: 'x' },
      ]),
    ]
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: buildImage({ tars, config: { Env: ['PATH=/bin'] } }) })
    must('chmod', '-R', 'a+rX', layout)
    image = `oci:${layout}:app`
  })
  after(() => {
    for (const user of Object.keys(USERS) as User[]) endNamespace(join(home(user), 'run/loam/namespace'))
    for (const file of USER_FILES) spawnSync('umount', [file])
    world[Symbol.dispose]()
  })

  test('a user with subordinate IDs has root filesystems whose files belong to them, commits a copy as one layer, and removes it', () => {
    const rootfs = succeed('mapped', 'provision', '--id', 'a', image).trim()
    const { uid, gid } = statSync(join(rootfs, 'srv/page'))
    assert.deepEqual({ uid, gid }, { uid: FIRST + 32, gid: FIRST + 32 })
    assert.equal(statSync(rootfs).uid, USERS.mapped)
    const { far, 'srv/page': page } = trimmed(owners('mapped', 'a'))
    // No ID of the namespace can own it, so its owner is recorded.
    assert.deepEqual({ far, page }, { far: '3000000/7', page: '33/33' })
    assert.equal(succeed('mapped', 'unshare', 'stat', '-c', '%u', join(rootfs, 'srv/page')), '33\n')
    succeed('mapped', 'unshare', 'sh', '-c', 'rm "$0/srv/gone"; echo x >"$0/made"', rootfs)
    const { stderr } = loam('mapped', 'commit', 'a', 'edited:1')
    assert.match(stderr, /^note: the container is a copy, .* one layer with all files/m)
    const edited = trimmed(owners('mapped', 'edited:1'))
    assert.deepEqual(
      [edited['made'], edited['srv/page'], edited['far'], edited['srv/gone']],
      ['0/0', '33/33', '3000000/7', undefined],
    )
    succeed('mapped', 'destroy', 'a')
    assert.equal(existsSync(rootfs), false)
  })

  test('a user with subordinate IDs runs a process as a user of the image over an overlay, and commits what it has changed', () => {
    const line = 'id -u; cat /srv/page; rm /srv/gone; echo new >/srv/page; mkdir /srv/made; echo /replaced/*'
    const { stdout, status, stderr } = loam(
      'mapped',
      'run',
      '--keep',
      '--id',
      'b',
      '--user',
      'web',
      image,
      'sh',
      '-c',
      line,
    )
    assert.deepEqual({ status, stdout }, { status: 0, stdout: '33\nold/replaced/upper\n' }, stderr)
    const [listed] = JSON.parse(succeed('mapped', '--json', 'ps')) as { rootfses: { backend: string }[] }[]
    assert.equal(listed?.rootfses[0]?.backend, 'overlay')
    succeed('mapped', 'snapshot', 'commit', 'b', 'changed:1')
    const {
      'srv/made/': made,
      'srv/page': page,
      'srv/gone': gone,
      far,
    } = trimmed(owners('mapped', 'changed:1'))
    assert.deepEqual(
      { made, page, gone, far },
      { made: '33/33', page: '33/33', gone: undefined, far: '3000000/7' },
    )
    succeed('mapped', 'destroy', 'b')
    assert.match(succeed('mapped', 'fsck'), /no problems/)
  })

  test('a user with one ID runs processes as root over an overlay, and commits the recorded owners', () => {
    const { stdout, status, stderr } = loam(
      'alone',
      'run',
      '--keep',
      '--id',
      'c',
      image,
      'sh',
      '-c',
      'id -u; rm /srv/gone; echo /replaced/*; echo new >>/srv/page',
    )
    assert.deepEqual({ status, stdout }, { status: 0, stdout: '0\n/replaced/upper\n' }, stderr)
    assert.match(stderr, /owners are recorded .*\/etc\/subuid has no IDs for alone/)
    succeed('alone', 'snapshot', 'commit', 'c', 'changed:1')
    const {
      'srv/page': page,
      'srv/gone': gone,
      far,
      'replaced/': replaced,
    } = trimmed(owners('alone', 'changed:1'))
    assert.deepEqual(
      { page, gone, far, replaced },
      { page: '33/33', gone: undefined, far: '3000000/7', replaced: '5/0' },
    )
    const other = loam('alone', 'run', '--user', 'web', image, 'id')
    assert.equal(other.status, 125)
    assert.match(other.stderr, /without root a container has one user, 0:0\nhint: .*subordinate IDs/)
    succeed('alone', 'destroy', 'c')
  })

  test('subordinate IDs that nsswitch.conf says are not in files come from getsubids, and its failure is told', () => {
    const nsswitch = join(world.folder, 'nsswitch.conf')
    writeFileSync(nsswitch, '# subid: files\nsubid: directory # of the company\n')
    must('mount', '--bind', nsswitch, '/etc/nsswitch.conf')
    const programs = join(world.folder, 'programs')
    mkdirSync(programs)
    const answer = `case $1 in -g) shift;; esac; [ $1 = mapped ] && echo 0: mapped ${FIRST + 5} 100`
    writeFileSync(join(programs, 'getsubids'), `#!/bin/sh\n${answer}\n`)
    chmodSync(join(programs, 'getsubids'), 0o755)
    const unshare = (user: User) => {
      const run = join(home(user), 'directory')
      mkdirSync(run)
      chownSync(run, USERS[user], USERS[user])
      const env = { PATH: `${programs}:${process.env['PATH'] ?? ''}`, HOME: home(user), XDG_RUNTIME_DIR: run }
      const options = { uid: USERS[user], gid: USERS[user], encoding: 'utf8', env } as const
      const words = ['unshare', 'sh', '-c', 'cat /proc/self/uid_map; echo "$LOAM_ROOTLESS"']
      const { stdout } = spawnSync(process.execPath, [BIN, ...words], options)
      endNamespace(join(run, 'loam/namespace'))
      return stdout.replaceAll(/ +/g, ' ')
    }
    try {
      assert.match(unshare('mapped'), new RegExp(`^ 0 4201 1\n 1 ${FIRST + 5} 100\n`))
      assert.match(
        unshare('alone'),
        /^ 0 4202 1\n\{"ids":"single","why":"getsubids alone \(subid: directory in .* status 1"/,
      )
    } finally {
      must('umount', '/etc/nsswitch.conf')
    }
  })

  test('a user without XDG_RUNTIME_DIR, as in cron and su, has the state directory in the store', () => {
    for (const [name, id] of Object.entries(USERS)) {
      const own = join(world.folder, name, 'cron')
      mkdirSync(own)
      chownSync(own, id, id)
      const env = { PATH: process.env['PATH'] ?? '', HOME: own }
      const run = (...args: readonly string[]): CommandResult =>
        spawnSync(process.execPath, [BIN, ...args], { uid: id, gid: id, encoding: 'utf8', env })
      const state = join(own, '.local/share/loam/state')
      try {
        const examined = run('doctor')
        assert.doesNotMatch(examined.stdout, /not a Loam store/, examined.stderr)
        const { status, stderr } = run('provision', '--id', 'c', image)
        assert.equal(status, 0, stderr)
        assert.ok(existsSync(join(state, 'namespace')))
        assert.equal(run('destroy', 'c').stdout, 'c\n')
      } finally {
        endNamespace(join(state, 'namespace'))
      }
    }
  })

  test('doctor says which IDs a user who is not root has, and how to get more', () => {
    assert.match(succeed('mapped', 'doctor'), /^user +4201, not root: a user namespace with subordinate IDs/m)
    assert.match(
      succeed('alone', 'doctor'),
      /^user +4202, not root: .* one ID: \/etc\/subuid has no IDs for alone/m,
    )
    assert.match(succeed('alone', 'doctor'), /^ +more: apt-get install uidmap; usermod --add-subuids/m)
  })
})

function trimmed(owners: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(owners).map(([name, owner]) => [name.replace(/^\.\//, ''), owner]))
}

const USER_FILES = ['/etc/passwd', '/etc/group', '/etc/subuid', '/etc/subgid']

/** Shows files with two more users in the mount namespace of this test. */
function createUsers(folder: string): void {
  for (const file of USER_FILES) {
    const copy = join(folder, file.replaceAll('/', '-'))
    if (!existsSync(file)) writeFileSync(file, '')
    copyFileSync(file, copy)
    chmodSync(copy, 0o644)
    const lines = Object.entries(USERS).map(([user, id]) => {
      if (file === '/etc/passwd') return `${user}:x:${id}:${id}::${join(folder, user)}:/bin/sh\n`
      return file === '/etc/group' ? `${user}:x:${id}:\n` : ''
    })
    const isSubordinate = file.startsWith('/etc/sub')
    writeFileSync(
      copy,
      isSubordinate ? `mapped:${FIRST}:65536\n` : `${readFileSync(copy, 'utf8')}${lines.join('')}`,
    )
    must('mount', '--bind', copy, file)
  }
}

/** Ends the process that keeps the namespaces of a user; it would also end by itself soon after its file was removed. */
function endNamespace(file: string): void {
  if (!existsSync(file)) return
  const { pid } = JSON.parse(readFileSync(file, 'utf8')) as { pid: number }
  process.kill(-pid)
}
