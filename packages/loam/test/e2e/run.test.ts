// `loam run` with runc, as a user runs it.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { busyboxEntries, debianTar, must, sharedImages, World } from '../support/world.ts'

describe('loam run', () => {
  let world: World
  let image: string

  before(() => {
    world = new World()
    const layout = join(world.folder, 'layout')
    const applets = ['sh', 'id', 'env', 'pwd', 'cat', 'sleep', 'true', 'touch', 'ls', 'kill', 'tty']
    const tar = buildTar([
      ...busyboxEntries(applets),
      { name: 'etc/' },
      {
        name: 'etc/passwd',
        data: 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n',
      },
      { name: 'etc/group', data: 'root:x:0:\nextra:x:2000:app\napp:x:1001:\n' },
      { name: 'etc/data', data: 'no program', mode: 0o644 },
      { name: 'tmp/', mode: 0o1777 },
      { name: 'work/' },
    ])
    writeOciLayout(layout, {
      app: buildImage({
        tars: [tar],
        config: {
          Entrypoint: ['/bin/sh', '-c'],
          Cmd: ['echo default'],
          Env: ['A=image', 'B=image'],
          WorkingDir: '/work',
          User: 'app',
        },
      }),
    })
    image = `oci:${layout}:app`
  })
  after(() => {
    assert.deepEqual(world.mounts(), [])
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })

  test("loam run runs the image's command as its user in its directory", () => {
    assert.equal(world.loam('run', image).stdout, 'default\n')
    const { stdout } = world.loam('run', image, '--', 'id; pwd; echo $A $HOME')
    assert.equal(stdout, 'uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)\n/work\nimage /home/app\n')
  })

  test("loam run prefers its options to the image's config", () => {
    const { stdout, stderr } = world.loam(
      'run',
      '--env',
      'A=mine',
      '--workdir',
      '/tmp',
      '--user',
      '0:2000',
      image,
      'id -u; id -g; pwd; echo $A $B',
    )
    assert.equal(stdout, '0\n2000\n/tmp\nmine image\n', stderr)
  })

  test('loam run returns the status of the process, of a missing program and of one that cannot be executed', () => {
    assert.equal(world.loam('run', image, 'exit 7').status, 7)
    const layout = join(world.folder, 'plain')
    writeOciLayout(layout, {
      plain: buildImage({ tars: [buildTar([{ name: 'etc/data', data: 'x' }])] }),
    })
    const missing = world.loam('run', `oci:${layout}:plain`, '--', 'nothing')
    assert.equal(missing.status, 127)
    assert.match(missing.stderr, /does not contain this program/)
    assert.equal(world.loam('run', `oci:${layout}:plain`, '--', '/etc/data').status, 126)
    assert.equal(world.loam('run', `oci:${layout}:plain`).status, 127)
    assert.equal(world.loam('run', '--no-such-flag', image).status, 125)
    assert.equal(world.loam('run', 'oci:/nowhere:x').status, 125)
    assert.equal(world.loam('run', '--user', 'nobody-here', image).status, 125)
  })

  test('loam run ends with 126 for a program that the kernel does not execute, whether Loam or the runtime finds out', () => {
    const layout = join(world.folder, 'programs')
    const tar = buildTar([
      ...busyboxEntries(['sh']),
      { name: 'bin/crlf', mode: 0o755, data: '#!/bin/sh\r\necho\r\n' },
      { name: 'bin/of-root', mode: 0o700, data: '#!/bin/sh\n' },
    ])
    writeOciLayout(layout, { app: buildImage({ tars: [tar] }) })
    const crlf = world.loam('run', `oci:${layout}:app`, 'crlf')
    assert.equal(crlf.status, 126)
    assert.match(crlf.stderr, /hint: .*ends in CR LF/)
    assert.equal(world.loam('run', '--user', '5', `oci:${layout}:app`, '/bin/of-root').status, 126)
  })

  test('loam run ignores an empty entrypoint, and a variable without a value is from its own environment', () => {
    const run = (entrypoint: readonly string[], ...args: readonly string[]) => {
      const layout = join(world.folder, `entrypoint-${entrypoint.length}-${entrypoint[0]}`)
      const config = { Entrypoint: entrypoint, Cmd: ['echo', 'cmd'], Env: ['TOKEN=image'] }
      const tar = buildTar(busyboxEntries(['echo', 'env']))
      writeOciLayout(layout, { app: buildImage({ tars: [tar], config }) })
      const words = args.map((word) => (word === 'IMAGE' ? `oci:${layout}:app` : word))
      return world.loamWith({ TOKEN: 'mine' }, '--quiet', 'run', ...words)
    }
    assert.equal(run([''], 'IMAGE').stdout, 'cmd\n')
    assert.equal(run([''], 'IMAGE', 'echo', 'given').stdout, 'given\n')
    assert.equal(run(['echo', 'E'], '--entrypoint', '', 'IMAGE', 'echo', 'given').stdout, 'given\n')
    assert.equal(run(['echo', 'E'], '--entrypoint=', 'IMAGE').stdout, 'cmd\n')
    assert.match(run([], '--env', 'TOKEN', 'IMAGE', 'env').stdout, /^TOKEN=mine$/m)
    const refused = run([], '--env', 'NOT_SET', 'IMAGE', 'env')
    assert.deepEqual([refused.status, refused.stdout], [125, ''])
    assert.match(refused.stderr, /--env "NOT_SET": it is not set in this environment/)
  })

  test('loam run warns once of an image for another architecture, unless that was requested', () => {
    const layout = join(world.folder, 'foreign')
    const architecture = process.arch === 'x64' ? 'arm64' : 'amd64'
    writeOciLayout(layout, {
      app: buildImage({
        tars: [buildTar(busyboxEntries(['true']))],
        platform: { os: 'linux', architecture },
      }),
    })
    const foreign = `oci:${layout}:app`
    for (const command of [
      ['run', foreign, 'true'],
      ['pull', foreign],
      ['--quiet', 'provision', '--id', 'f', foreign],
    ]) {
      const warnings = world
        .loam(...command)
        .stderr.split('\n')
        .filter((line) => line.includes('warning'))
      assert.equal(warnings.length, 1, command.join(' '))
      assert.match(warnings[0] ?? '', new RegExp(`is for linux/${architecture}`))
    }
    assert.doesNotMatch(world.loam('pull', '--platform', `linux/${architecture}`, foreign).stderr, /warning/)
    assert.doesNotMatch(world.loam('run', image).stderr, /warning/)
    world.loam('destroy', 'f')
  })

  test('loam run passes standard input through', () => {
    assert.equal(world.loamProcess({ input: 'from outside' }, 'run', image, 'cat').stdout, 'from outside')
  })

  test('loam run passes signals through and cleans up after them', async () => {
    const child = spawn(
      process.execPath,
      world.args(
        'run',
        '--id',
        'sig',
        image,
        'trap "echo got; exit 9" TERM; echo ready; while :; do sleep 0.1; done',
      ),
    )
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    while (child.exitCode === null && !output.includes('ready')) await sleep(50)
    child.kill('SIGTERM')
    const status = await new Promise((resolve) => {
      child.once('close', resolve)
    })
    assert.equal(status, 9)
    assert.equal(output, 'ready\ngot\n')
    assert.deepEqual(JSON.parse(world.loam('--json', 'ps').stdout), [])
  })

  test('loam run gives the process a terminal of the same size when there is one', () => {
    const command = [process.execPath, ...world.args('run', image, 'stty size; tty')]
      .map((part) => `'${part}'`)
      .join(' ')
    const line = `stty rows 41 columns 101; ${command}`
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], { encoding: 'utf8' })
    assert.match(stdout, /41 101\s+\/dev\/(?:pts\/\d|console)/)
    assert.match(world.loam('run', image, 'tty || true').stdout, /not a tty/)
  })

  test('loam run mounts the requested paths and images', () => {
    const source = join(world.folder, 'data')
    mkdirSync(source)
    writeFileSync(join(source, 'file'), 'mounted')
    mkdirSync(join(source, 'inner'))
    must('mount', '-t', 'tmpfs', 'inner', join(source, 'inner'))
    const { stdout } = world.loam(
      'run',
      '--mount',
      `type=bind,source=${source},target=/data,readonly`,
      image,
      'cat /data/file; for d in /data /data/inner; do touch $d/x 2>/dev/null || echo " read-only"; done',
    )
    must('umount', join(source, 'inner'))
    assert.equal(stdout, 'mounted read-only\n read-only\n')
  })

  test('loam run keeps the container on request, and then refuses its id', () => {
    assert.equal(world.loam('run', '--keep', '--id', 'kept', image, 'echo x > /tmp/left').status, 0)
    const [container] = JSON.parse(world.loam('--json', 'ps').stdout)
    assert.equal(readFileSync(join(container.rootfses[0].rootfsPath, 'tmp/left'), 'utf8'), 'x\n')
    const again = world.loam('--json', 'run', '--id', 'kept', image)
    assert.equal(JSON.parse(again.stderr).error.code, 'CONTAINER_EXISTS')
    assert.equal(world.loam('destroy', 'kept').stdout, 'kept\n')
  })

  test('loam run refuses writes with --read-only', () => {
    const { stdout } = world.loam('run', '--read-only', image, 'touch /tmp/x 2>/dev/null || echo refused')
    assert.equal(stdout, 'refused\n')
  })

  test('loam run runs a Debian shell', () => {
    const layout = join(world.folder, 'debian')
    writeOciLayout(layout, {
      debian: buildImage({ tars: [readFileSync(debianTar())], config: { Cmd: ['bash'] } }),
    })
    const { stdout, status } = world.loam(
      'run',
      `oci:${layout}:debian`,
      '--',
      'bash',
      '-c',
      '. /etc/os-release; echo $ID $VERSION_ID; exit 3',
    )
    assert.equal(stdout, 'debian 12\n')
    assert.equal(status, 3)
  })

  const images = sharedImages()
  test('loam run runs busybox', { skip: images === undefined }, () => {
    assert.equal(
      world.loam('run', `oci:${join(images ?? '', 'busybox-glibc-amd64')}`, '--', 'echo', 'hello').stdout,
      'hello\n',
    )
  })

  test('loam run runs Alpine', { skip: images === undefined }, () => {
    const layout = join(world.folder, 'alpine')
    const tar = gunzipSync(readFileSync(join(images ?? '', 'alpine-minirootfs-3.20.3-x86_64.tar.gz')))
    writeOciLayout(layout, { alpine: buildImage({ tars: [tar] }) })
    assert.match(
      world.loam('run', `oci:${layout}:alpine`, '--', 'cat', '/etc/os-release').stdout,
      /Alpine Linux/,
    )
  })
})
