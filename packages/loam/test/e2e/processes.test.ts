// Processes in the background and in running containers, as a user of docker or podman types the commands.
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { openLoam } from '../../src/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { busyboxEntries, must, World } from '../support/world.ts'

describe('a process of loam run', () => {
  let world: World
  let image: string
  const loam = (...args: readonly string[]) => world.loam('--quiet', ...args)
  /** Runs a command that has to succeed, and returns its output. */
  const said = (...args: readonly string[]) => {
    const { status, stdout, stderr } = loam(...args)
    assert.deepEqual([status, stderr], [0, ''], args.join(' '))
    return stdout
  }
  const until = async (isSo: () => boolean) => {
    while (!isSo()) await sleep(20)
  }

  before(() => {
    world = new World()
    const layout = join(world.folder, 'layout')
    const applets = 'sh cat ls ln id pwd env hostname grep sleep true kill ps tty'.split(' ')
    const tar = buildTar([
      ...busyboxEntries(applets),
      { name: 'etc/' },
      { name: 'etc/passwd', data: 'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n' },
      { name: 'tmp/', mode: 0o1777 },
    ])
    const config = { Env: ['PATH=/bin'], StopSignal: 'SIGUSR1' }
    writeOciLayout(layout, { app: buildImage({ tars: [tar], config }) })
    image = `oci:${layout}:app`
    world.loam('pull', image)
  })
  after(() => {
    assert.deepEqual(world.mounts(), [])
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })

  test('the options of docker and podman have their meaning', () => {
    const work = join(world.folder, 'work')
    mkdirSync(work)
    writeFileSync(join(work, 'file'), 'x')
    writeFileSync(join(work, 'env'), '# comment\nFROM_FILE=1\nBOTH=file\n')
    const line =
      'id -u; pwd; hostname; ls; echo $FROM_FILE $BOTH; grep -c " /run tmpfs.*size=1024k" /proc/mounts; grep -c ^root: /etc/passwd'
    const options =
      `-i --rm -e BOTH=flag --env-file ${work}/env -v ${work}:/work:ro -w /work -u app -h web`.split(' ')
    const limits = '--tmpfs /run:size=1m --tmpfs /etc -m 64m --cpus 0.5 --net none --name n1'.split(' ')
    const stdout = said('run', ...options, ...limits, image, 'sh', '-c', line)
    assert.equal(stdout, '1000\n/work\nweb\nenv\nfile\n1 flag\n1\n1\n')
    const missing = loam('run', '-v', `${work}/none:/x`, image, 'true')
    assert.deepEqual([missing.status, /none at \/x: it does not exist/.test(missing.stderr)], [125, true])
  })

  test('a detached process runs on, can be entered, logs, and ends with the signal of its image', async () => {
    const line = 'trap "echo bye; exit 3" USR1; echo ready; echo error >&2; while :; do sleep 0.05; done'
    assert.equal(said('run', '-d', '--name', 'web', image, 'sh', '-c', line), 'web\n')
    // The runtime copies both streams, each at its own pace.
    await until(() => said('logs', 'web').split('\n').toSorted().join(' ') === ' error ready')
    const entered = loam(
      'exec',
      '-u',
      'app',
      '-e',
      'A=1',
      '-w',
      '/tmp',
      'web',
      'sh',
      '-c',
      'id -u; pwd; echo $A $HOME; exit 9',
    )
    assert.deepEqual([entered.status, entered.stdout], [9, '1000\n/tmp\n1 /home/app\n'])
    assert.equal(loam('exec', 'web', 'nothing').status, 127)
    const refused = loam('rm', 'web')
    assert.deepEqual(
      [refused.status, /its process is running\nhint: Stop it first/.test(refused.stderr)],
      [1, true],
    )
    for (const command of ['rm', 'start']) {
      const { status, stderr } = loam('--json', command, 'web')
      const { code, kind } = JSON.parse(stderr).error
      assert.deepEqual([status, code, kind], [1, 'CONTAINER_RUNNING', 'failed_precondition'], command)
    }
    assert.equal(said('stop', 'web'), 'web\n')
    assert.equal(said('logs', '--tail', '1', 'web'), 'bye\n')
    assert.equal(said('ps', '--format', '{{.ID}} {{.Status}}'), 'web exited (3)\n')
    const state = '{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}'
    assert.equal(said('inspect', '--format', state, 'web'), 'exited false 0 3\n')
    assert.equal(JSON.parse(said('inspect', 'web')).container.process.exitStatus, 3)
    const late = loam('exec', 'web', 'true')
    assert.deepEqual([late.status, /does not run \(exited\)/.test(late.stderr)], [125, true])
    assert.equal(said('start', 'web'), 'web\n')
    assert.equal(said('kill', '-s', 'KILL', 'web'), 'web\n')
    await until(() => said('logs', '-f', 'web').split('ready').length === 3)
    assert.equal(said('container', 'rm', 'web'), 'web\n')
    const gone = loam('rm', 'web')
    assert.deepEqual([gone.status, /no such container/.test(gone.stderr)], [1, true])
    assert.equal(said('rm', '-f', 'web'), 'web\n'.slice(0, 0))
  })

  test('a detached container with --rm is removed when its process ends, and standard input stays open with -i', () => {
    assert.equal(said('run', '-di', '--rm', '--name', 'cat', image, 'cat'), 'cat\n')
    assert.equal(said('exec', 'cat', 'sh', '-c', 'echo in'), 'in\n')
    assert.equal(said('stop', '-t', '0', 'cat'), 'cat\n')
    assert.equal(existsSync(join(world.root, 'containers', 'cat')), false)
  })

  test('a detached container with --rm whose monitor was killed alone is removed at the next look after its process has ended', async () => {
    const fifo = join(world.folder, 'end')
    must('mkfifo', fifo)
    said('run', '-d', '--rm', '--name', 'left', '-v', `${fifo}:/end`, image, 'cat', '/end')
    const began = join(world.state, 'bundles', 'left', 'began')
    process.kill(Number(readFileSync(began, 'utf8')), 'SIGKILL')
    assert.match(said('ps', '--format', '{{.ID}} {{.Status}}'), /^left running/)
    writeFileSync(fifo, '')
    await until(() => said('ps', '-q') === '')
    assert.equal(existsSync(join(world.root, 'containers', 'left')), false)
  })

  test('a process in the background has a terminal with -t, and another one is started beside it with exec -d', async () => {
    assert.equal(said('run', '-dit', '--name', 'tty', image, 'sh', '-c', 'tty; exec sh'), 'tty\n')
    await until(() => said('logs', 'tty').startsWith('/dev/'))
    const line = 'echo in; echo $0 >/tmp/file; exec sleep 1000'
    assert.equal(said('exec', '-d', 'tty', 'sh', '-c', line, 'back'), '')
    await until(() => loam('exec', 'tty', 'cat', '/tmp/file').stdout === 'back\n')
    assert.equal(loam('exec', '-d', 'tty', 'nothing').status, 127)
    assert.match(loam('exec', '-dt', 'tty', 'sh').stderr, /has no terminal/)
    assert.equal(said('stop', '--timeout', '0', 'tty'), 'tty\n')
    assert.equal(said('rm', 'tty'), 'tty\n')
  })

  test('the output of a process is kept up to its limit, while it is followed', () => {
    const line = 'i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 4'
    const limit = ['--container_log_size', '8192']
    assert.equal(said('run', ...limit, '-d', '--name', 'much', image, 'sh', '-c', line), 'much\n')
    assert.match(said('logs', '-f', 'much'), /line 1998\nline 1999\n$/)
    const kept = said('logs', 'much')
    assert.match(kept, /line 1998\nline 1999\n$/)
    assert.equal(kept.length <= 8192 && kept.length >= 4096, true, `${kept.length}`)
    assert.equal(said('logs', '--tail', '2', 'much'), 'line 1998\nline 1999\n')
    const command = `sh -c ${line}`
    assert.equal(
      said('ps', '--format', '{{.Status}} {{.Command}}'),
      `exited (4) ${JSON.stringify(`${command.slice(0, 19)}…`)}\n`,
    )
    assert.equal(said('ps', '--no-trunc', '--format', '{{.Command}}'), `${JSON.stringify(command)}\n`)
    assert.equal(said('rm', 'much'), 'much\n')
  })

  test('files come out of a container as a tar, and a tar goes into it', () => {
    said('run', '-d', '--name', 'tar', image, 'sleep', '1000')
    try {
      const tar = join(world.folder, 'in.tar')
      const entries = [
        { name: 'srv/' },
        { name: 'srv/.wh.file', data: 'x', uid: 7, gid: 8, mode: 0o4755 },
        { name: 'srv/link', type: 'symlink' as const, linkName: '../../..' },
      ]
      writeFileSync(tar, gzipSync(buildTar(entries)))
      const command = world.args('--quiet', 'cp', '-', 'tar:/tmp').map((word) => `'${word}'`)
      must('sh', '-c', `'${process.execPath}' ${command.join(' ')} <'${tar}'`)
      assert.match(said('exec', 'tar', 'ls', '-ln', '/tmp/srv/.wh.file'), /^-rwsr-xr-x\s+1 7\s+8 /)
      assert.match(loam('exec', 'tar', 'ls', '-l', '/tmp/srv').stdout, /link -> ..\/..\/../)
      const out = world.args('--quiet', 'cp', 'tar:/tmp/srv', '-').map((word) => `'${word}'`)
      const listed = must('sh', '-c', `'${process.execPath}' ${out.join(' ')} | tar -tv --numeric-owner`)
      assert.match(listed, /^drwxr-xr-x 0\/0 .* srv\/\n-rwsr-xr-x 7\/8 .* srv\/.wh.file\nl.* srv\/link -> /)
      writeFileSync(tar, buildTar([{ name: 'dev/' }, { name: 'dev/shm/' }, { name: 'dev/shm/x', data: 'x' }]))
      const hidden = world.loamProcess({ input: readFileSync(tar, 'utf8') }, 'cp', '-', 'tar:/')
      assert.match(hidden.stderr, /left out what goes to \/dev: it is a mount of the container/)
      const bad = world.loamProcess({ input: 'x'.repeat(2000) }, 'cp', '-', 'tar:/tmp')
      assert.deepEqual([bad.status, /hint|not a tar|checksum/.test(bad.stderr)], [1, true], bad.stderr)
      const file = world.loamProcess({ input: 'x' }, 'cp', '-', 'tar:/etc/passwd')
      assert.match(file.stderr, /it is not a directory\nhint: Name the directory/)
    } finally {
      said('rm', '-f', 'tar')
    }
  })

  test('a container is removed while a tar that goes into it is still coming', async () => {
    const { root, state } = world
    await using library = await openLoam({ flags: { root, state }, file: null, env: {} })
    const { containers } = library
    await containers.provision(image, { id: 'slow' })
    const began = Promise.withResolvers<undefined>()
    const ends = Promise.withResolvers<undefined>()
    const comingTar = async function* () {
      began.resolve(undefined)
      await ends.promise
      yield buildTar([{ name: 'file' }])
    }
    const unpacked = containers.files.unpack('slow', comingTar(), '/tmp')
    await Promise.race([began.promise, unpacked])
    await containers.destroy('slow')
    ends.resolve(undefined)
    await assert.rejects(unpacked, { code: 'CONTAINER_NOT_FOUND' })
  })

  test('files are copied into and out of a container that redirects its paths to this machine', () => {
    const source = join(world.folder, 'source')
    mkdirSync(join(source, 'sub'), { recursive: true })
    writeFileSync(join(source, 'sub/program'), 'x', { mode: 0o755 })
    chmodSync(join(source, 'sub/program'), 0o4755)
    symlinkSync('/etc/passwd', join(source, 'link'))
    mkdirSync(join(world.folder, 'mounted'))
    said('run', '-d', '--name', 'files', '-v', `${source}:/mounted`, image, 'sleep', '1000')
    try {
      said('cp', `${source}/.`, 'files:/tmp')
      said('cp', source, 'files:/new')
      const onMount = loam('cp', join(world.folder, 'mounted'), 'files:/')
      assert.match(onMount.stderr, /files:\/: \/mounted is a mount of the container/)
      assert.equal(
        said('exec', 'files', 'ls', '-lnA', '/tmp/sub').includes('-rwxr-xr-x    1 0        0'),
        true,
      )
      assert.equal(said('exec', 'files', 'ls', '/new'), 'link\nsub\n')
      said('cp', 'files:/new/sub/program', `${world.folder}/copied`)
      assert.equal(readFileSync(join(world.folder, 'copied'), 'utf8'), 'x')
      said('cp', '-L', 'files:/new/link', `${world.folder}/followed`)
      assert.match(readFileSync(join(world.folder, 'followed'), 'utf8'), /^root:x:0:0::\/root/)
      // Links that lead out of the container stay in it, also where they are in the way.
      said('exec', 'files', 'sh', '-c', `ln -s /../..${world.folder} /out; ln -s ${world.folder} /tmp/deep`)
      const outside = loam('cp', `${source}/sub/program`, 'files:/out/escaped')
      assert.match(outside.stderr, /there is no such directory in the container/)
      mkdirSync(join(world.folder, 'target/deep'), { recursive: true })
      const inTheWay = loam('cp', 'files:/tmp/.', join(world.folder, 'target'))
      assert.match(inTheWay.stderr, /a directory has that name at the target/)
      symlinkSync(source, join(world.folder, 'target/sub'))
      assert.match(
        loam('cp', 'files:/new/.', join(world.folder, 'target')).stderr,
        /"sub": it is a directory/,
      )
      assert.equal(existsSync(join(world.folder, 'escaped')), false)
      assert.match(loam('cp', 'files:/mounted/sub', '.').stderr, /\/mounted is a mount of the container/)
      assert.match(
        loam('cp', world.folder, 'files:/tmp').stderr,
        /the target is in the directory that is copied/,
      )
      must('mkfifo', `${world.folder}/pipe`)
      const withPipe = loam('cp', `${world.folder}/pipe`, 'files:/tmp')
      assert.deepEqual(
        [withPipe.status, withPipe.stderr],
        [0, 'left out /pipe: it is a device, a pipe or a socket\n'],
      )
      assert.match(loam('cp', 'files:/nothing', '.').stderr, /there is no such file in the container/)
    } finally {
      said('rm', '-f', 'files')
    }
  })

  test('an image is mounted once for scanners, and a container is committed with changes to its config', () => {
    const mounted = said('mount', image).trim()
    assert.equal(said('mount', image).trim(), mounted)
    assert.match(readFileSync(join(mounted, 'etc/passwd'), 'utf8'), /^root/)
    assert.throws(() => {
      writeFileSync(join(mounted, 'new'), '')
    }, /EROFS/)
    assert.equal(said('umount', mounted), `${mounted}\n`)
    assert.match(loam('umount', image).stderr, /it is not mounted by loam mount/)
    said('run', '-d', '--name', 'base', image, 'sh', '-c', 'echo changed >/tmp/file; exec sleep 1000')
    assert.match(
      said('inspect', '-f', '{{.State.Status}} {{.State.Running}} {{.State.Pid}}', 'base'),
      /^running true [1-9]/,
    )
    const path = said('mount', 'base').trim()
    assert.equal(path.startsWith(join(world.root, 'containers/base')), true)
    while (!existsSync(join(path, 'tmp/file'))) said('exec', 'base', 'true')
    const digest = said(
      'commit',
      '-m',
      'words',
      '-c',
      'CMD ["cat", "/tmp/file"]',
      '-c',
      'ENV A=2',
      'base',
      'changed:1',
    )
    assert.match(digest, /^sha256:/)
    assert.equal(said('run', 'changed:1'), 'changed\n')
    assert.match(said('diff', 'base'), /^A \/tmp\/file$/m)
    assert.match(said('inspect', 'changed:1'), /"comment": "words"/)
    assert.match(loam('commit', '-c', 'RUN rm', 'base', 'changed:2').stderr, /the instruction is not known/)
    said('rm', '-f', 'base')
  })

  test('a detached process that cannot be started leaves nothing', () => {
    const { status, stderr } = loam('run', '-d', '--name', 'none', image, 'nothing')
    assert.deepEqual([status, /does not contain this program/.test(stderr)], [127, true])
    assert.equal(said('ps', '--json').trim(), '[]')
    assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(world.root), false)
  })
})
