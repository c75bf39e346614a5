// Outputs for other programs: to files, pipes, devices and standard output by all its names.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { byTurns, someOf } from '../support/rounds.ts'
import { gather, must, World } from '../support/world.ts'

const tar = buildTar([{ name: 'file', data: 'x'.repeat(3_000_000) }])
const image = buildImage({ tars: [tar] })
const NAMES = ['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1', '/proc/thread-self/fd/1'] as const

describe('outputs', () => {
  let world: World
  let name: string
  before(() => {
    world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { image })
    name = `oci:${layout}:image`
    assert.equal(world.loam('pull', name).status, 0)
    assert.equal(world.loam('provision', '--id', 'web', '--backend', 'copy', name).status, 0)
    // A snapshot that is a layer of the store, and one that is a directory.
    const database = new DatabaseSync(join(world.root, 'metadata.db'))
    const insert = database.prepare(
      `INSERT INTO snapshots (key, kind, labels, created_us, updated_us, size_bytes, inodes, diff_id)
       VALUES (?, ?, '{}', 1, 1, 0, 0, ?)`,
    )
    insert.run('layer', 'committed', image.diffIds[0]!)
    const { lastInsertRowid } = insert.run('directory', 'active', null)
    database.close()
    const folder = join(world.root, 'snapshots', String(lastInsertRowid), 'fs')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'changed'), 'changed')
    symlinkSync('/dev/stdout', join(world.folder, 'link'))
  })
  after(() => {
    world[Symbol.dispose]()
  })

  /** Runs the command with a private /dev, whose links may be lost without harm to the machine. */
  const inOwnDev = (args: readonly string[], redirect = '') =>
    spawnSync(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        `mount -t tmpfs dev /dev && ln -s /proc/self/fd /dev/fd && ln -s /proc/self/fd/1 /dev/stdout && mknod -m 666 /dev/null c 1 3 &&
         mknod -m 666 /dev/urandom c 1 9 && mknod -m 666 /dev/full c 1 7 &&
         { "$@" ${redirect}; status=$?; } 3>&1; test "$(readlink /dev/stdout)" = /proc/self/fd/1 || echo LOST >&2; exit $status`,
        'sh',
        process.execPath,
        ...world.args(...args),
      ],
      { maxBuffer: 64 << 20 },
    )
  const listOf = (archive: Buffer) => execFileSync('tar', ['-t'], { input: archive, encoding: 'utf8' })
  const commands: Readonly<Record<string, (output: string) => string[]>> = {
    'the diff of a snapshot that is a layer': (output) => ['snapshot', 'diff', 'layer', output],
    'the diff of a snapshot that is a directory': (output) => ['snapshot', 'diff', 'directory', output],
    'an image as a tar': (output) => ['export', '--format', 'tar', name, output],
    'a container as a tar': (output) => ['export', '--format', 'tar', 'web', output],
  }

  for (const [place, [what, command]] of Object.entries(commands).entries()) {
    test(`${what} goes to standard output by each of its names, and /dev/stdout stays what it is`, () => {
      // Each process takes a second on a busy machine: all names for one command, two for the others.
      for (const output of what.includes('layer')
        ? [...NAMES, join(world.folder, 'link')]
        : byTurns(NAMES.slice(0, 2), place)) {
        const { status, stdout, stderr } = inOwnDev(command(output))
        assert.equal(status, 0, `${output}: ${String(stderr)}`)
        assert.doesNotMatch(String(stderr), /LOST/, output)
        assert.match(listOf(stdout), /file|changed/, output)
      }
    })

    test(`${what} goes to a file that standard output is, and the file keeps what was before it`, () => {
      for (const output of byTurns(['-', '/dev/stdout'], place)) {
        const target = join(world.folder, `redirected-${output.length}`)
        writeFileSync(target, '')
        const { status, stderr } = inOwnDev(command(output), `>> ${target}`)
        assert.equal(status, 0, String(stderr))
        assert.doesNotMatch(String(stderr), /LOST/)
        assert.match(listOf(readFileSync(target)), /file|changed/)
      }
    })

    test(`${what} goes to a named pipe, which stays`, async () => {
      const pipe = join(world.folder, `pipe-${what.length}`)
      must('mkfifo', pipe)
      const running = world.loamAsync(...command(pipe))
      // All of it is read first: tar itself stops at the end mark, before the data after it.
      const reader = spawn('sh', ['-c', 'cat "$1" > "$1.tar" && tar -tf "$1.tar"', 'sh', pipe])
      const listed = gather(reader.stdout)
      const closed = once(reader, 'close')
      const { status, stderr } = await running
      assert.equal(status, 0, stderr)
      assert.ok(lstatSync(pipe).isFIFO())
      await closed
      assert.match(listed(), /file|changed/)
    })

    test(`${what} goes to a device, which stays`, () => {
      const { status, stderr } = inOwnDev(command('/dev/null'))
      assert.equal(status, 0, String(stderr))
    })

    test(`${what} on a full disk is NO_SPACE, to a file, a device and standard output`, () => {
      const places = [
        ['/dev/full', ''],
        ['-', '> /dev/full'],
      ] as const
      for (const [output, redirect] of byTurns(places, place)) {
        const { status, stderr } = inOwnDev(['--json', ...command(output)], redirect)
        assert.equal(status, 1)
        assert.equal(JSON.parse(String(stderr)).error.code, 'NO_SPACE')
      }
      const small = join(world.folder, `small-${what.length}`)
      mkdirSync(small)
      must('mount', '-t', 'tmpfs', '-o', 'size=4k', 'small', small)
      try {
        writeFileSync(join(small, 'filler'), Buffer.alloc(4096))
        const { status, stderr } = world.loam('--json', ...command(join(small, 'out.tar')))
        assert.equal(status, 1)
        assert.equal(JSON.parse(stderr).error.code, 'NO_SPACE')
        assert.deepEqual(readdirSync(small), ['filler'])
      } finally {
        must('umount', small)
      }
    })
  }

  test('a reader that closes the output ends the command with 141 and without a message, for streams, tables, JSON and help', () => {
    const args: readonly (readonly string[])[] = [
      ['export', '--format', 'tar', name, '-'],
      ['images'],
      ['--json', 'inspect', name],
      ['--help'],
      ['snapshot', 'diff', 'layer', '-'],
    ]
    for (const command of someOf(args, 4)) {
      const script = '{ "$@"; echo $? >&2; } | true'
      // The reader ends before anything is written.
      const slow = `trap '' PIPE; ${script.replace('"$@"', 'sleep 0.3; "$@"')}`
      const { stderr } = spawnSync(
        'sh',
        ['-c', slow, 'sh', process.execPath, ...world.args('--quiet', ...command)],
        {
          encoding: 'utf8',
        },
      )
      assert.equal(stderr, '141\n', command.join(' '))
    }
  })

  test('a result that cannot be written is an error, and never a success', () => {
    for (const command of someOf([['images'], ['--json', 'images'], ['doctor'], ['config']], 2)) {
      const full = openSync('/dev/full', 'w')
      const { status, stderr } = spawnSync(process.execPath, world.args(...command), {
        stdio: ['ignore', full, 'pipe'],
        encoding: 'utf8',
      })
      closeSync(full)
      assert.equal(status, 1, command.join(' '))
      assert.match(stderr, /no space left/)
    }
  })

  test('a non-blocking pipe that is read slowly gets all of the output', () => {
    const script = `
      import fcntl, os, subprocess, sys, time
      r, w = os.pipe()
      fcntl.fcntl(w, fcntl.F_SETFL, fcntl.fcntl(w, fcntl.F_GETFL) | os.O_NONBLOCK)
      child = subprocess.Popen(sys.argv[1:], stdout=w)
      os.close(w)
      data = b''
      while True:
          part = os.read(r, 65536)
          if not part: break
          data += part; time.sleep(0.005)
      assert child.wait() == 0, child.returncode
      sys.stdout.buffer.write(data)`.replaceAll(/^ {6}/gm, '')
    const streams = [
      ['export', '--format', 'tar', name, '-'],
      ['snapshot', 'diff', 'layer', '-'],
    ]
    for (const command of someOf(streams, 1)) {
      const { status, stdout, stderr } = spawnSync(
        'python3',
        ['-c', script, process.execPath, ...world.args(...command)],
        { maxBuffer: 64 << 20 },
      )
      assert.equal(status, 0, String(stderr))
      assert.match(listOf(stdout), /file/)
    }
  })

  test('disks go to standard output and to devices, and over a block device only by --force', () => {
    for (const [format, magic, at] of [
      ['erofs', 'e2e1f5e0', 1024],
      ['ext4', '53ef', 1024 + 56],
    ] as const) {
      const { status, stdout, stderr } = inOwnDev(['export', '--format', format, name, '-'])
      assert.equal(status, 0, String(stderr))
      assert.equal(stdout.subarray(at, at + magic.length / 2).toString('hex'), magic)
    }
    const backing = join(world.folder, 'backing')
    must('truncate', '-s', '64M', backing)
    const loop = must('losetup', '--find', '--show', backing).trim()
    try {
      const refused = world.loam('--json', 'export', '--format', 'erofs', name, loop)
      assert.equal(JSON.parse(refused.stderr).error.code, 'OUTPUT_EXISTS')
      assert.equal(world.loam('export', '--force', '--format', 'erofs', name, loop).status, 0)
      assert.ok(statSync(loop).isBlockDevice())
      assert.equal(readFileSync(loop).subarray(1024, 1028).toString('hex'), 'e2e1f5e0')
    } finally {
      must('losetup', '--detach', loop)
    }
  })

  test('an existing file is left alone', () => {
    const existing = join(world.folder, 'existing')
    writeFileSync(existing, 'mine')
    symlinkSync(existing, join(world.folder, 'to-existing'))
    for (const command of Object.values(commands)) {
      for (const output of [existing, join(world.folder, 'to-existing')]) {
        const { stderr } = world.loam('--json', ...command(output))
        assert.equal(JSON.parse(stderr).error.code, 'OUTPUT_EXISTS')
        assert.equal(readFileSync(existing, 'utf8'), 'mine')
      }
    }
    assert.deepEqual(
      readdirSync(world.folder).filter((each) => each.includes('.loam-')),
      [],
    )
  })

  test('the diff of a layer whose tar is corrupt is an error and leaves no file', () => {
    const path = join(world.root, 'layers', image.diffIds[0]!, 'layer.tar')
    const sound = readFileSync(path)
    const rotten = Buffer.from(sound)
    rotten[2000] = 1
    writeFileSync(path, rotten)
    const output = join(world.folder, 'rotten.tar')
    const { stderr } = world.loam('--json', 'snapshot', 'diff', 'layer', output)
    writeFileSync(path, sound)
    assert.equal(JSON.parse(stderr).error.code, 'LAYER_DAMAGED')
    assert.ok(!existsSync(output))
  })
})
