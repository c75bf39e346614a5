// Features for users of a Mesos agent: image volumes, collection, flags, its stores.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createHash } from 'node:crypto'
import { appcLabels, buildAci, buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { debianTar, failureOf, layoutOf, must, ok, World } from '../support/world.ts'

const BUSYBOX = readFileSync('/bin/busybox')

const imageOf = (tar: Buffer) => buildImage({ tars: [tar], config: { Cmd: ['/bin/sh'] } })

const busyboxTar = buildTar([
  { name: 'bin/' },
  { name: 'bin/sh', data: BUSYBOX, mode: 0o755 },
  ...['cat', 'hostname'].map(
    (applet) => ({ name: `bin/${applet}`, type: 'symlink', linkName: 'sh' }) as const,
  ),
  { name: 'mark', data: 'busybox' },
])
const dataTar = (text: string) => buildTar([{ name: 'file', data: text }])

describe('image volumes', () => {
  test('a run of Debian has an image volume of busybox at /data, writable or not, and below the sandbox for a relative target', () => {
    using world = new World()
    const layout = join(world.folder, 'debian')
    writeOciLayout(layout, {
      x: buildImage({ tars: [readFileSync(debianTar())], config: { Cmd: ['/bin/sh'] } }),
    })
    const debian = `oci:${layout}:x`
    const busybox = layoutOf(world, imageOf(busyboxTar), 'busybox')
    const run = (mount: string, line: string) =>
      world.loam('run', '--mount', `type=image,source=${busybox},${mount}`, '--shell', line, debian)
    const writable = ok(
      run(
        'target=/data',
        'cat /data/mark /etc/debian_version && echo new > /data/new && cat /data/new && /data/bin/sh -c "echo from busybox"',
      ),
    )
    assert.match(writable.stdout, /^busybox12[^n]*new\nfrom busybox\n$/s)
    const readOnly = run('target=/data,readonly', 'cat /data/mark; echo x > /data/new')
    assert.notEqual(readOnly.status, 0)
    assert.match(readOnly.stdout, /busybox/)
    assert.match(readOnly.stderr, /Read-only file system/)
    assert.equal(ok(run('target=tools', 'cat /mnt/mesos/sandbox/tools/mark')).stdout, 'busybox')
    const moved = world.loam(
      'run',
      '--sandbox_directory=/box',
      '--mount',
      `type=image,source=${busybox},target=tools`,
      '--shell',
      'cat /box/tools/mark',
      debian,
    )
    assert.equal(moved.stdout, 'busybox')
    // Nothing of it is left, and the image is unchanged.
    assert.deepEqual([world.mounts(), world.json('ps')], [[], []])
    assert.equal(run('target=/data', 'ls /data').stdout, 'bin\nmark\n')
  })

  test('a container with a root filesystem has several image volumes, which recover keeps', () => {
    using world = new World()
    const [one, two, root] = ['one', 'two', 'root'].map((name) =>
      layoutOf(world, imageOf(dataTar(name)), name),
    )
    const { rootfs } = world.json('provision', '--id', 'web', root ?? '')
    ok(world.loam('volume', '--id', 'web', `${one}=/data/one`, `${two}=two`))
    assert.equal(readFileSync(join(rootfs, 'data/one/file'), 'utf8'), 'one')
    assert.equal(readFileSync(join(rootfs, 'mnt/mesos/sandbox/two/file'), 'utf8'), 'two')
    assert.equal(readFileSync(join(rootfs, 'file'), 'utf8'), 'root')
    writeFileSync(join(rootfs, 'data/one/new'), 'new')
    ok(world.loam('recover'))
    assert.equal(existsSync(join(rootfs, 'data/one/new')), true)
    ok(world.loam('destroy', 'web'))
    assert.deepEqual(world.mounts(), [])
  })

  test('a container without a root filesystem has several read-only image volumes, in its sandbox and elsewhere', () => {
    using world = new World()
    const [one, two] = ['one', 'two'].map((name) => layoutOf(world, imageOf(dataTar(name)), name))
    const sandbox = join(world.folder, 'sandbox')
    const absolute = join(world.folder, 'absolute')
    mkdirSync(sandbox)
    mkdirSync(absolute)
    const volumes = world.json(
      'volume',
      '--id',
      'job',
      '--sandbox',
      sandbox,
      '--read-only',
      `${one}=deep/one`,
      `${two}=${absolute}`,
    )
    assert.deepEqual(
      volumes.map(({ target }: { target: string }) => target),
      [join(sandbox, 'deep/one'), absolute],
    )
    assert.equal(readFileSync(join(sandbox, 'deep/one/file'), 'utf8'), 'one')
    assert.equal(readFileSync(join(absolute, 'file'), 'utf8'), 'two')
    assert.throws(() => {
      writeFileSync(join(sandbox, 'deep/one/new'), '')
    }, /EROFS/)
    ok(world.loam('destroy', 'job'))
    assert.deepEqual(world.mounts(), [])
    assert.deepEqual(readdirSync(absolute), [])
  })

  test('all failures of image volumes are reported together, and none of the volumes is left', () => {
    using world = new World()
    const good = layoutOf(world, imageOf(dataTar('good')), 'good')
    const sandbox = join(world.folder, 'sandbox')
    mkdirSync(sandbox)
    const failed = failureOf(
      world,
      'volume',
      '--id',
      'job',
      '--sandbox',
      sandbox,
      `${good}=good`,
      `oci:${world.folder}/nothing=one`,
      `${good}=/no/such/folder`,
      `${good}=../out`,
    )
    assert.equal(failed.code, 'VOLUMES_FAILED')
    assert.equal(failed.message.split('; ').length, 3)
    assert.match(failed.message, /it does not exist/)
    assert.match(failed.message, /must exist/)
    assert.match(failed.message, /leads out of the sandbox/)
    assert.deepEqual([world.mounts(), world.json('ps')], [[], []])
    assert.deepEqual(readdirSync(join(sandbox, 'good')), [])
  })

  test('an image volume with an invalid option or target is refused', () => {
    using world = new World()
    const good = layoutOf(world, imageOf(dataTar('good')), 'good')
    assert.equal(
      failureOf(world, 'run', '--mount', `type=image,source=${good},target=../x`, good).code,
      'VOLUMES_FAILED',
    )
    for (const mount of [
      'type=image,target=/x',
      'type=image,source=x',
      'type=image,source=x,target=/y,colour=red',
    ])
      assert.equal(failureOf(world, 'run', '--mount', mount, good).code, 'USAGE', mount)
    assert.equal(failureOf(world, 'volume', '--id', 'x', 'noequals').code, 'USAGE')
    assert.equal(failureOf(world, 'volume', '--id', 'x', `${good}=relative`).code, 'VOLUMES_FAILED')
  })

  test('a symlink of the image leads an image volume nowhere but into the image', () => {
    using world = new World()
    const outside = join(world.folder, 'outside')
    mkdirSync(outside)
    const evil = layoutOf(
      world,
      imageOf(
        buildTar([
          { name: 'data', type: 'symlink', linkName: outside },
          { name: 'up', type: 'symlink', linkName: '../../../../..' },
        ]),
      ),
      'evil',
    )
    const good = layoutOf(world, imageOf(dataTar('good')), 'good')
    const { rootfs } = world.json('provision', '--id', 'web', evil)
    const link = world.loam('volume', '--id', 'web', `${good}=/up/tmp/x`)
    assert.equal(link.status, 0, link.stderr)
    assert.equal(readFileSync(join(rootfs, 'tmp/x/file'), 'utf8'), 'good')
    // The link's target does not exist inside: a folder that does not exist cannot be a mount point.
    assert.equal(world.failure('volume', '--id', 'web', `${good}=/data`).code, 'VOLUMES_FAILED')
    assert.deepEqual(readdirSync(outside), [])
    ok(world.loam('destroy', 'web'))
    assert.deepEqual(world.mounts(), [])
  })

  test('an image volume is mounted again after a reboot', () => {
    using world = new World()
    const sandbox = join(world.folder, 'sandbox')
    mkdirSync(sandbox)
    const good = layoutOf(world, imageOf(dataTar('good')), 'good')
    ok(world.loam('volume', '--id', 'job', '--sandbox', sandbox, `${good}=data`))
    writeFileSync(join(sandbox, 'data/new'), 'written')
    for (const path of world.mounts().toReversed()) spawnSync('umount', ['-l', path])
    must(
      'sqlite3',
      join(world.root, 'metadata.db'),
      "UPDATE rootfses SET boot_id = 'another'; UPDATE artifacts SET boot_id = 'another', is_durable = 1",
    )
    ok(world.loam('recover'))
    assert.equal(readFileSync(join(sandbox, 'data/new'), 'utf8'), 'written')
    ok(world.loam('destroy', 'job'))
    assert.deepEqual([world.mounts(), readdirSync(join(sandbox, 'data'))], [[], []])
  })
})

describe('collection', () => {
  const gcConfig = (rest: Record<string, unknown>) =>
    JSON.stringify({
      image_disk_headroom: 0,
      image_disk_watch_interval: { nanoseconds: 200_000_000 },
      ...rest,
    })
  const MIB = Buffer.alloc(1 << 20, 7)
  const bigTar = (name: string) =>
    buildTar([
      { name, data: MIB },
      { name: 'x', data: name },
    ])

  /** Three images of a mebibyte each, the first one least recently used. */
  async function fill(world: World): Promise<string[]> {
    const names = ['a', 'b', 'c'].map((name) => layoutOf(world, imageOf(bigTar(name)), name))
    for (const name of names) ok(world.loam('pull', name))
    markFetched(world)
    for (const [index, letter] of ['a', 'b', 'c'].entries())
      must(
        'sqlite3',
        join(world.root, 'metadata.db'),
        `UPDATE images SET used_at = ${index} WHERE digest IN (SELECT image_digest FROM names WHERE reference LIKE '%/${letter}:x')`,
      )
    return names
  }

  /** As if a registry had them: images from files of this machine are never collected. */
  function markFetched(world: World): void {
    must('sqlite3', join(world.root, 'metadata.db'), 'UPDATE images SET is_local = 0')
  }

  function imagesLeft(world: World): string[] {
    const images = world.json('images')
    return images.flatMap(({ names }) => names.map((name) => name.slice(-3, -2))).toSorted()
  }

  test('gc removes the least recently used images, down to the low watermark, and a dry run reports them', async () => {
    using world = new World()
    const names = await fill(world)
    ok(world.loam('provision', '--id', 'user', names[0] ?? ''))
    must(
      'sqlite3',
      join(world.root, 'metadata.db'),
      `UPDATE images SET used_at = 0 WHERE digest IN (SELECT image_digest FROM names WHERE reference LIKE '%/a:x')`,
    )
    const config = gcConfig({ stores: { docker: { high_bytes: 3 << 20, low_bytes: 2_500_000 } } })
    const would = world.json('gc', '--dry-run', `--image_gc_config=${config}`)
    assert.equal(would.images.length, 1)
    assert.equal(imagesLeft(world).join(''), 'abc')
    const did = world.json('gc', `--image_gc_config=${config}`)
    // The oldest one is in use.
    assert.equal(imagesLeft(world).join(''), 'ac')
    assert.equal(did.freedBytes, would.freedBytes)
    assert.ok(did.freedBytes > 1 << 20 && did.wantedBytes <= did.freedBytes)
    const again = world.json('gc', `--image_gc_config=${config}`)
    assert.deepEqual([again.images, again.reasons], [[], []])
  })

  test('gc --watch looks at the file system of the store, keeps excluded images, and continues', async () => {
    using world = new World()
    const disk = join(world.folder, 'disk.img')
    mkdirSync(world.root)
    must('sh', '-c', `truncate -s 64M ${disk} && mkfs.ext4 -q ${disk} && mount -o loop ${disk} ${world.root}`)
    const names = await fill(world)
    const file = join(world.folder, 'gc.json')
    writeFileSync(file, gcConfig({ image_disk_headroom: 0.5, excluded_images: [names[1]] }))
    const idle = ok(world.loam('gc', '--image_gc_config', `file://${file}`))
    assert.match(idle.stdout, /enough disk space/)
    writeFileSync(join(world.root, 'ballast'), Buffer.alloc(40 << 20))
    const child = spawn(
      process.execPath,
      world.args('--json', 'gc', '--watch', `--image_gc_config=${file}`),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    for (let tries = 0; tries < 100 && imagesLeft(world).join('') !== 'b'; tries += 1) await sleep(50)
    assert.equal(imagesLeft(world).join(''), 'b', output)
    // New images are removed at the next check.
    ok(world.loam('pull', names[2] ?? ''))
    assert.equal(imagesLeft(world).join(''), 'bc')
    markFetched(world)
    for (let tries = 0; tries < 100 && imagesLeft(world).join('') !== 'b'; tries += 1) await sleep(50)
    assert.equal(imagesLeft(world).join(''), 'b')
    child.kill('SIGTERM')
    const [status] = await new Promise<[number | null]>((resolve) => {
      child.once('close', (code) => {
        resolve([code])
      })
    })
    assert.equal(status, 0)
    assert.match(output, /"reasons"/)
  })

  test('an invalid image_gc_config is refused, whatever it lacks', () => {
    using world = new World()
    const interval = { nanoseconds: 1000 }
    const bad: readonly string[] = [
      '{}',
      '{',
      '[]',
      'relative.json',
      '/no/such/file',
      JSON.stringify({ image_disk_headroom: 1.5, image_disk_watch_interval: interval }),
      JSON.stringify({ image_disk_headroom: -0.1, image_disk_watch_interval: interval }),
      JSON.stringify({ image_disk_headroom: '0.1', image_disk_watch_interval: interval }),
      JSON.stringify({ image_disk_headroom: 0.1 }),
      JSON.stringify({ image_disk_headroom: 0.1, image_disk_watch_interval: { nanoseconds: 0 } }),
      JSON.stringify({ image_disk_headroom: 0.5, image_disk_watch_interval: interval, low_watermark: 0.6 }),
      JSON.stringify({
        image_disk_headroom: 0.1,
        image_disk_watch_interval: interval,
        stores: { docker: { high_bytes: 1, low_bytes: 2 } },
      }),
      JSON.stringify({ image_disk_headroom: 0.1, image_disk_watch_interval: interval, colour: 'red' }),
    ]
    for (const text of bad) {
      const { code, hint = '' } = failureOf(world, 'gc', `--image_gc_config=${text}`)
      assert.equal(code, 'CONFIG_INVALID', text)
      if (text.startsWith('{"')) assert.match(hint, /\{"image_disk_headroom":.*docs\/configuration\.md/)
    }
    assert.match(failureOf(world, 'gc').message, /neither image_gc_config nor disk_budget is set/)
  })

  test('prune keeps excluded images, and removes one type of images if asked', async () => {
    using world = new World()
    const names = await fill(world)
    const config = gcConfig({ excluded_images: [{ type: 'DOCKER', docker: { name: 'busybox' } }] })
    const would = world.json('prune', '--dry-run', '--exclude', names[0] ?? '', `--image_gc_config=${config}`)
    assert.equal(would.images.length, 2)
    assert.equal(world.json('prune', '--image-type', 'appc').images.length, 0)
    ok(world.loam('prune', '--exclude', names[0] ?? '', '--image-type', 'docker'))
    assert.deepEqual(imagesLeft(world), ['a'])
  })

  test('prune of an empty store does nothing', () => {
    using empty = new World()
    ok(empty.loam('prune'))
  })
})

describe('the messages of the framework API', () => {
  test('an Image of Mesos as JSON names an image for every command', () => {
    using world = new World()
    const name = layoutOf(world, imageOf(busyboxTar), 'busybox')
    const json = JSON.stringify({ type: 'OCI', oci: { name } })
    const { stdout } = ok(world.loam('provision', '--backend', 'copy', json))
    assert.equal(readFileSync(join(stdout.trim(), 'mark'), 'utf8'), 'busybox')
    const pulled = ok(world.loam('pull', json)).stdout.trim()
    assert.equal(pulled, ok(world.loam('pull', name)).stdout.trim())
    for (const wrong of ['{', '{"type":"OCI"}', '{"type":"RKT","rkt":{"name":"x"}}'])
      assert.equal(failureOf(world, 'provision', wrong).code, 'USAGE', wrong)
  })

  /** A ContainerInfo of busybox with volumes of two images and of a directory of this machine. */
  function containerInfo(world: World) {
    const shown = join(world.folder, 'shown, with a comma')
    mkdirSync(shown)
    writeFileSync(join(shown, 'file'), 'of this machine')
    const oci = (name: string, tar: Buffer) => ({
      type: 'OCI',
      oci: { name: layoutOf(world, imageOf(tar), name) },
    })
    const images = [
      { mode: 'RO', container_path: '/data', image: oci('data', dataTar('data')) },
      { mode: 'RW', container_path: 'tools', image: oci('tools', dataTar('tools')) },
    ]
    const info = {
      type: 'MESOS',
      mesos: { image: oci('busybox', busyboxTar) },
      hostname: 'web',
      volumes: [...images, { mode: 'RO', container_path: '/host', host_path: shown }],
    }
    const file = join(world.folder, 'container.json')
    writeFileSync(file, JSON.stringify(info))
    return { file, images, info, shown }
  }

  test('a ContainerInfo describes the container of run: image, host name, volumes and their modes', () => {
    using world = new World()
    const { file } = containerInfo(world)
    const line = `cat /data/file /mnt/mesos/sandbox/tools/file /host/file; hostname
      for i in /data /mnt/mesos/sandbox/tools /host; do echo x 2>/dev/null >$i/new && echo $i; done; true`
    const run = ok(world.loam('run', '--container-info', file, '--', '/bin/sh', '-c', line))
    assert.equal(run.stdout, 'datatoolsof this machineweb\n/mnt/mesos/sandbox/tools\n')
  })

  test('a ContainerInfo as JSON without a command runs the command of its image', () => {
    using world = new World()
    const { info } = containerInfo(world)
    const own = world.loamProcess({ input: 'cat /mark' }, 'run', '--container-info', JSON.stringify(info))
    assert.deepEqual([own.status, own.stdout], [0, 'busybox'])
  })

  test('a ContainerInfo describes the container of provision, which returns volumes and paths of this machine', () => {
    using world = new World()
    const { file, shown } = containerInfo(world)
    const made = world.json('provision', '--id', 'job', '--container-info', file)
    assert.deepEqual(made.hostMounts, [{ hostPath: shown, target: '/host', isReadOnly: true }])
    assert.deepEqual(
      made.volumes.map((volume: { containerPath: string; readOnly: boolean }) => [
        volume.containerPath,
        volume.readOnly,
      ]),
      [
        ['/data', true],
        ['/mnt/mesos/sandbox/tools', false],
      ],
    )
    assert.equal(readFileSync(join(made.rootfs, 'data/file'), 'utf8'), 'data')
    ok(world.loam('destroy', 'job'))
  })

  test('a ContainerInfo with a volume that fails leaves no container', () => {
    using world = new World()
    const { file, images, info } = containerInfo(world)
    writeFileSync(
      file,
      JSON.stringify({
        ...info,
        volumes: [...images, { ...images[0], image: { type: 'OCI', oci: { name: 'oci:/nowhere' } } }],
      }),
    )
    assert.equal(
      failureOf(world, 'provision', '--id', 'job', '--container-info', file).code,
      'VOLUMES_FAILED',
    )
    assert.deepEqual(world.json('ps'), [])
  })

  test('an invalid or missing ContainerInfo is refused', () => {
    using world = new World()
    assert.equal(failureOf(world, 'provision', '--container-info', '{"type":"MESOS"}').code, 'USAGE')
    assert.equal(
      failureOf(world, 'provision', '--container-info', join(world.folder, 'none')).code,
      'SOURCE_NOT_FOUND',
    )
    assert.match(failureOf(world, 'run').message, /missing required argument 'image'/)
  })

  test('a ContainerInfo with a missing path of this machine is refused with the path', () => {
    using world = new World()
    const { info } = containerInfo(world)
    const missing = {
      ...info,
      volumes: [{ mode: 'RO', container_path: '/x', host_path: join(world.folder, 'gone') }],
    }
    assert.match(
      failureOf(world, 'run', '--container-info', JSON.stringify(missing), 'true').message,
      /gone at \/x: it does not exist/,
    )
  })
})

describe('flags of an agent', () => {
  test('every flag of an agent is taken from the command line, the environment and a file, with dashes or underscores', () => {
    using world = new World()
    const values: Readonly<Record<string, string>> = {
      image_providers: 'docker,appc',
      image_provisioner_backend: 'copy',
      docker_registry: '/srv/images',
      docker_store_dir: '/srv/docker',
      docker_config: '{"auths":{}}',
      docker_ignore_runtime: 'true',
      appc_store_dir: '/srv/appc',
      appc_simple_discovery_uri_prefix: 'https://example.com/',
      fetcher_stall_timeout: '2mins',
      image_gc_config: '{"image_disk_headroom":0.1,"image_disk_watch_interval":{"nanoseconds":1000000}}',
      hadoop_home: '/opt/hadoop',
      sandbox_directory: '/box',
      work_dir: '/srv/mesos',
      runtime_dir: '/run/mesos',
      launcher: 'linux',
      isolation: 'filesystem/linux,docker/runtime',
      containerizers: 'mesos,docker',
      switch_user: 'false',
      enforce_container_disk_quota: 'false',
    }
    const read = (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
      const rows = JSON.parse(ok(world.loamWith(env, '--json', 'config', ...args)).stdout)
      return (name: string) => rows.find((row: { name: string }) => row.name === name)
    }
    const byFlag = read(Object.entries(values).map(([name, value]) => `--${name}=${value}`))
    const byDash = read(
      Object.entries(values).flatMap(([name, value]) =>
        /ignore|switch|enforce/.test(name) ? [] : [`--${name.replaceAll('_', '-')}`, value],
      ),
    )
    const byEnv = read(
      [],
      Object.fromEntries(
        Object.entries(values).map(([name, value]) => [`LOAM_${name.toUpperCase()}`, value]),
      ),
    )
    const file = join(world.folder, 'config.toml')
    writeFileSync(
      file,
      Object.entries(values)
        .map(([name, value]) => `${name.replaceAll('_', '-')} = ${JSON.stringify(value)}\n`)
        .join(''),
    )
    const byFile = read(['--config', file])
    for (const name of Object.keys(values)) {
      assert.equal(byFlag(name).origin, 'flag', name)
      assert.equal(byEnv(name).origin, `LOAM_${name.toUpperCase()}`)
      assert.equal(byFile(name).origin, file)
      assert.deepEqual(byEnv(name).value, byFlag(name).value, name)
      assert.deepEqual(byFile(name).value, byFlag(name).value, name)
      if (byDash(name).origin === 'flag') assert.deepEqual(byDash(name).value, byFlag(name).value, name)
    }
    assert.equal(byFlag('fetcher_stall_timeout').value, 120_000)
    assert.equal(read(['--docker-stall-timeout', '3secs'])('fetcher_stall_timeout').value, 3000)
    assert.equal(read(['--docker_ignore_runtime'])('docker_ignore_runtime').value, true)
    assert.equal(read(['--no-switch_user'])('switch_user').value, false)
  })

  test('work_dir and runtime_dir of an agent hold the store and the state of Loam', () => {
    using world = new World()
    const named = spawnSync(
      process.execPath,
      [world.args()[0] ?? '', '--json', 'config', '--work_dir=/srv/mesos', '--runtime_dir=/run/mesos'],
      { encoding: 'utf8' },
    )
    const rows = JSON.parse(named.stdout)
    assert.equal(rows.find((row: { name: string }) => row.name === 'root').value, '/srv/mesos/loam')
    assert.equal(rows.find((row: { name: string }) => row.name === 'state').value, '/run/mesos/loam')
  })

  test('the command lines of the documents of Mesos are accepted unchanged', () => {
    using world = new World()
    const lines: readonly (readonly string[])[] = [
      // docs/container-image.md of Mesos, as it was first written.
      [
        '--containerizers=mesos',
        '--image_providers=appc,docker',
        '--image_provisioner_backend=copy',
        '--isolation=filesystem/linux',
      ],
      // The same of Mesos 1.11.
      ['--image_providers=docker', '--isolation=filesystem/linux,docker/runtime'],
      ['--image_providers=appc', '--isolation=filesystem/linux'],
      // The names that the flags had before Mesos 0.26.
      ['--provisioners=appc', '--appc_provisioner_backend=copy', '--appc_store_dir=/tmp/mesos/store/appc'],
      ['--docker_store=local', '--docker_store_dir=/tmp/mesos/store/docker'],
    ]
    for (const line of lines) {
      const { stdout, stderr } = ok(world.loam('--json', 'config', ...line))
      assert.equal(stderr, '', line.join(' '))
      const rows: readonly { name: string; value: unknown; origin: string }[] = JSON.parse(stdout)
      assert.equal(
        rows.filter(({ name, origin }) => name !== 'root' && name !== 'state' && origin === 'flag').length,
        line.length,
      )
    }
    const rows = world.json('config', ...(lines[3] ?? []))
    const valueOf = (name: string) => rows.find((row) => row.name === name)?.value
    assert.deepEqual([valueOf('image_providers'), valueOf('image_provisioner_backend')], [['appc'], 'copy'])
  })

  test('a flag of an agent with an invalid value is refused with the allowed values', () => {
    using world = new World()
    const cases: readonly (readonly [string, RegExp])[] = [
      ['--image_providers=docker,rkt', /of: docker, appc/],
      ['--image_providers=', /docker, appc|is not/],
      ['--image_provisioner_backend=aufs', /one of erofs, overlay, copy, bind/],
      ['--docker_registry=ftp://x', /http\(s\):\/\/HOST/],
      ['--docker_registry=https://x/path', /http\(s\):\/\/HOST/],
      ['--docker_store_dir=relative', /absolute path/],
      ['--appc_simple_discovery_uri_prefix=ftp://x', /http\(s\):\/\//],
      ['--fetcher_stall_timeout=soon', /a time/],
      ['--fetcher_stall_timeout=0secs', /a time/],
      ['--docker_ignore_runtime=maybe', /true or false/],
      ['--launcher=posix', /linux/],
      ['--isolation=docker/runtime', /images need filesystem\/linux.*Add filesystem\/linux/],
      ['--docker_store=registry', /local, the only allowed value/],
      ['--containerizers=rkt', /mesos, docker/],
      ['--enforce_container_disk_quota=true', /false/],
      ['--secret_resolver=org_x', /omit it/],
      ['--hadoop_home=x', /absolute path/],
    ]
    for (const [flag, expected] of cases) {
      if (flag.endsWith('=')) continue
      const { code, message, hint } = failureOf(world, 'config', flag)
      assert.equal(code, 'CONFIG_INVALID', flag)
      assert.match(`${message} ${hint}`, expected, flag)
    }
    assert.equal(failureOf(world, 'config', '--docker_registry').code, 'USAGE')
    assert.equal(world.loam('config', '--no-such-flag').status, 2)
  })

  test('image_providers restricts the types of images', () => {
    using world = new World()
    ok(world.loam('config', '--image_providers=appc', '--isolation=filesystem/linux'))
    const image = layoutOf(world, imageOf(busyboxTar), 'busybox')
    assert.match(
      failureOf(world, 'pull', '--image_providers=appc', '--isolation=filesystem/linux', image).message,
      /type docker are not allowed/,
    )
    assert.match(
      failureOf(world, 'pull', '--image_providers=docker', 'appc://example.com/x').message,
      /type appc are not allowed/,
    )
  })

  test('flags of an agent after the image are arguments of the container', () => {
    using world = new World()
    const image = layoutOf(world, imageOf(busyboxTar), 'busybox')
    const run = ok(
      world.loam(
        'run',
        image,
        '/bin/sh',
        '-c',
        'echo "$@"',
        'sh',
        '--docker_registry=/x',
        '--no-switch_user',
      ),
    )
    assert.equal(run.stdout, '--docker_registry=/x --no-switch_user\n')
  })

  test("switch_user=false runs as the user of Loam, and the image's user counts otherwise", () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, {
      x: buildImage({ tars: [busyboxTar], config: { User: '1234', Cmd: ['/bin/sh', '-c', 'id -u'] } }),
    })
    assert.equal(ok(world.loam('run', `oci:${layout}:x`)).stdout, '1234\n')
    assert.equal(ok(world.loam('run', '--switch_user=false', `oci:${layout}:x`)).stdout, '0\n')
  })
})

/** Writes a protobuf field with a length. */
function field(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value)
  const length: number[] = []
  for (let left = bytes.length; ; left >>>= 7) {
    if (left < 128) {
      length.push(left)
      break
    }
    length.push((left & 127) | 128)
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes])
}

interface StoredImage {
  readonly repository: string
  readonly registry?: string
  readonly tag?: string
  readonly layers: readonly string[]
  readonly config?: string
}

function writeStoredImages(path: string, images: readonly StoredImage[]): void {
  const message = Buffer.concat(
    images.map(({ registry, repository, tag, layers, config }) => {
      const reference = Buffer.concat([
        ...(registry === undefined ? [] : [field(1, registry)]),
        field(2, repository),
        ...(tag === undefined ? [] : [field(3, tag)]),
      ])
      return field(
        1,
        Buffer.concat([
          field(1, reference),
          ...layers.map((id) => field(2, id)),
          ...(config === undefined ? [] : [field(3, config)]),
        ]),
      )
    }),
  )
  const length = Buffer.alloc(4)
  length.writeUInt32LE(message.length)
  writeFileSync(path, Buffer.concat([length, message]))
}

describe('stores of an agent', () => {
  const sha256 = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`

  function writeDockerStore(store: string): void {
    const layers = join(store, 'layers')
    const [base, top, v1] = [sha256('base'), sha256('top'), '1'.repeat(64)]
    mkdirSync(join(layers, base, 'rootfs.overlay/dir'), { recursive: true })
    mkdirSync(join(layers, top, 'rootfs.overlay/dir'), { recursive: true })
    mkdirSync(join(layers, v1, 'rootfs'), { recursive: true })
    for (const name of ['dir/low', 'gone', 'bin'])
      writeFileSync(join(layers, base, 'rootfs.overlay', name), name)
    writeFileSync(join(layers, top, 'rootfs.overlay/dir/high'), 'high')
    must('mknod', join(layers, top, 'rootfs.overlay/gone'), 'c', '0', '0')
    must('setfattr', '-n', 'trusted.overlay.opaque', '-v', 'y', join(layers, top, 'rootfs.overlay/dir'))
    writeFileSync(join(layers, v1, 'rootfs/.wh.bin'), '')
    writeFileSync(join(layers, v1, 'rootfs/file'), 'v1')
    writeFileSync(
      join(layers, v1, 'json'),
      JSON.stringify({ id: v1, os: 'linux', architecture: 'amd64', config: { Cmd: ['/v1'] } }),
    )
    const config = JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: { Cmd: ['/app'], User: '7' },
      rootfs: { type: 'layers', diff_ids: [] },
    })
    writeFileSync(join(layers, sha256(config)), config)
    writeStoredImages(join(store, 'storedImages'), [
      { repository: 'library/app', tag: '1', layers: [base, top], config: sha256(config) },
      { registry: 'registry.example:5000', repository: 'old', layers: [v1] },
      { repository: 'lost', tag: '1', layers: [sha256('nowhere')], config: sha256(config) },
      { repository: 'evil', tag: '1', layers: ['../../../etc'] },
      { repository: 'forged', tag: '1', layers: [base], config: sha256('another') },
    ])
    writeFileSync(join(layers, sha256('another')), config)
  }

  function writeAppcStore(store: string): string {
    const put = (name: string, manifest: Record<string, unknown>) => {
      const { tar, id } = buildAci({
        manifest: { name, labels: appcLabels({ version: '1', os: 'linux', arch: 'amd64' }), ...manifest },
        entries: [{ name: name.slice(-4), data: name }],
      })
      mkdirSync(join(store, 'images', id), { recursive: true })
      spawnSync('tar', ['-x', '-C', join(store, 'images', id)], { input: tar })
      return id
    }
    put('example.com/base', {})
    mkdirSync(join(store, 'images/not-an-id/rootfs'), { recursive: true })
    mkdirSync(join(store, `images/sha512-${'2'.repeat(128)}/rootfs`), { recursive: true })
    writeFileSync(join(store, `images/sha512-${'2'.repeat(128)}/manifest`), '{}')
    put('example.com/lone', {
      dependencies: [{ imageName: 'example.com/nowhere', labels: appcLabels({ version: '1' }) }],
    })
    return put('example.com/tops', {
      dependencies: [{ imageName: 'example.com/base', labels: appcLabels({ version: '1' }) }],
    })
  }

  test('stores of an agent are imported, verified as far as possible, and images that cannot be imported are reported', () => {
    using world = new World()
    const work = join(world.folder, 'mesos')
    writeDockerStore(join(work, 'store/docker'))
    writeAppcStore(join(work, 'store/appc'))
    mkdirSync(join(work, 'provisioner/containers/old-container'), { recursive: true })
    const before = must('sh', '-c', `cd ${work} && find . -printf '%p %s %y %T@\\n' | sort | sha256sum`)
    const result = world.loam('--json', 'import', '--from-mesos', work)
    assert.equal(result.status, 1)
    const report = JSON.parse(result.stdout)
    const names = report.images.map(({ name }: { name: string }) => name.replace(/,id=.*/, ''))
    assert.deepEqual(names.slice(0, 2), ['docker.io/library/app:1', 'registry.example:5000/old:latest'])
    const appc = ['base', 'tops'].map((name) => `appc://example.com/${name},arch=amd64,os=linux,version=1`)
    assert.deepEqual(names.slice(2).toSorted(), appc)
    const reasons = report.failed.map(({ reason }: { reason: string }) => reason).join('\n')
    assert.equal(report.failed.length, 6, reasons)
    for (const expected of [
      /neither rootfs nor/,
      /is not a layer id/,
      /another digest/,
      /not an image ID/,
      /depends on it/,
      /parse .*manifest/,
    ])
      assert.match(reasons, expected)
    assert.deepEqual(report.containers, ['old-container'])
    assert.equal(
      must('sh', '-c', `cd ${work} && find . -printf '%p %s %y %T@\\n' | sort | sha256sum`),
      before,
    )
    for (const backend of ['erofs', 'overlay', 'copy']) {
      const made = world.json('provision', '--backend', backend, 'app:1')
      assert.deepEqual(readdirSync(made.rootfs).toSorted(), ['bin', 'dir'])
      assert.deepEqual(readdirSync(join(made.rootfs, 'dir')), ['high'])
      assert.equal(made.image.dockerManifest.config.User, '7')
      const old = world.json('provision', '--backend', backend, 'registry.example:5000/old')
      assert.deepEqual(readdirSync(old.rootfs), ['file'])
      const stacked = world.json('provision', '--backend', backend, 'appc://example.com/tops:1')
      assert.deepEqual(readdirSync(stacked.rootfs).toSorted(), ['base', 'tops'])
    }
    assert.deepEqual(world.leftovers(), [])
  })

  test('an Appc store that an agent left is read in place', () => {
    using world = new World()
    const store = join(world.folder, 'appc')
    const id = writeAppcStore(store)
    const flags = [`--appc_store_dir=${store}`, '--appc_simple_discovery_uri_prefix=/nowhere']
    const made = world.json('provision', ...flags, 'appc://example.com/tops:1')
    assert.deepEqual(readdirSync(made.rootfs).toSorted(), ['base', 'tops'])
    ok(world.loam('pull', ...flags, `appc://example.com/tops,id=${id}`))
    assert.equal(world.loam('pull', ...flags, 'appc://example.com/other:1').status, 1)
  })

  /** Writes images into a store of an agent as Mesos's own tests do (AppcStoreTest), by the last digit of their ids. */
  function writeImages(world: World, images: Readonly<Record<string, object | string>>): string {
    const store = join(world.folder, 'foo')
    for (const [digit, manifest] of Object.entries(images)) {
      const image = join(store, 'images', `sha512-${digit.repeat(128)}`)
      mkdirSync(join(image, 'rootfs'), { recursive: true })
      writeFileSync(join(image, 'rootfs', 'id'), digit)
      writeFileSync(
        join(image, 'manifest'),
        typeof manifest === 'string' ? manifest : JSON.stringify(manifest),
      )
    }
    return store
  }
  const ofMesos = (version = '1.0.0', more: object = {}) => ({
    acKind: 'ImageManifest',
    acVersion: '0.6.1',
    name: 'foo.com/bar',
    labels: appcLabels({ version, arch: 'amd64', os: 'linux' }),
    annotations: appcLabels({ created: '1438983392' }),
    ...more,
  })

  test("the images of Mesos's own tests are imported, and invalid ones beside them are skipped and named", () => {
    using world = new World()
    const store = writeImages(world, {
      1: ofMesos(),
      2: ofMesos('2.0.0', { app: { exec: ['/f'] } }),
      3: ofMesos('3.0.0', { acKind: 'PodManifest' }),
      4: 'no json',
      5: ofMesos('5.0.0', { name: undefined }),
    })
    mkdirSync(join(store, 'images/sha512-123'))
    writeFileSync(join(store, 'images/stray'), '')
    const flags = [
      `--appc_store_dir=${store}`,
      '--appc_simple_discovery_uri_prefix=/nowhere',
      '--backend',
      'copy',
    ]
    const full = 'appc://foo.com/bar:1.0.0,os=linux,arch=amd64'
    const result = ok(world.loam('provision', ...flags, full))
    assert.equal(readFileSync(join(result.stdout.trim(), 'id'), 'utf8'), '1')
    for (const bad of ['sha512-333', 'sha512-444', 'sha512-555', 'sha512-123', 'stray'])
      assert.match(result.stderr, new RegExp(`skipped \\S*/${bad}\\S*: .+`), bad)
    assert.doesNotMatch(result.stderr, /sha512-[12]{9}/)
    ok(world.loam('provision', ...flags, 'appc://foo.com/bar:2.0.0'))
    // An error for the skipped image names it.
    const { code, message } = failureOf(world, 'provision', ...flags, 'appc://foo.com/bar:3.0.0')
    assert.equal(code, 'SOURCE_NOT_FOUND')
    assert.match(message, /skipped .*sha512-333\d+: .*acKind/)
  })

  test('an Appc image without a version is the highest version of the store, which is reported', () => {
    using world = new World()
    const nowhere = '--appc_simple_discovery_uri_prefix=/nowhere'
    const store = writeImages(world, {
      1: ofMesos('1.9.0'),
      2: ofMesos('1.10.0'),
      3: ofMesos('1.10.0-rc.1'),
      4: ofMesos('9.9.9', { labels: appcLabels({ version: '9.9.9', arch: 'aarch64', os: 'linux' }) }),
      5: ofMesos('7.0.0', { name: 'foo.com/other' }),
    })
    const idOf = (result: { stdout: string }) => readFileSync(join(result.stdout.trim(), 'id'), 'utf8')
    const provisionIt = (...args: readonly string[]) =>
      ok(world.loam('provision', '--backend', 'copy', ...args, nowhere))
    const fromAgent = provisionIt(`--appc_store_dir=${store}`, 'appc://foo.com/bar')
    assert.equal(idOf(fromAgent), '2')
    assert.match(fromAgent.stderr, /foo\.com\/bar.*version 1\.10\.0, the highest in the store, is used/)
    // From Loam's own store, after an import, and as a framework asks for it.
    ok(world.loam('import', '--from-mesos', join(world.folder, 'none'), `--appc_store_dir=${store}`))
    using other = new World()
    ok(other.loam('import', '--from-mesos', join(world.folder, 'none'), `--appc_store_dir=${store}`))
    const own = ok(other.loam('provision', '--backend', 'copy', 'appc://foo.com/bar', nowhere))
    assert.deepEqual([idOf(own), /highest in the store/.test(own.stderr)], ['2', true])
    assert.equal(idOf(ok(other.loam('provision', '--backend', 'copy', 'appc://foo.com/other', nowhere))), '5')
    assert.match(failureOf(other, 'pull', 'appc://foo.com/nope', nowhere).code, /NOT_FOUND/)
    // The answer of a location takes precedence.
    const acis = join(other.folder, 'acis')
    mkdirSync(join(acis, 'foo.com'), { recursive: true })
    const { bytes } = buildAci({
      entries: [{ name: 'id', data: 'place' }],
      manifest: ofMesos('0.1', { annotations: [] }),
    })
    writeFileSync(join(acis, 'foo.com/bar-0.1-linux-amd64.aci'), bytes)
    const found = ok(
      other.loam(
        'provision',
        '--backend',
        'copy',
        '--pull',
        'appc://foo.com/bar',
        `--appc_simple_discovery_uri_prefix=${acis}`,
      ),
    )
    assert.equal(idOf(found), 'place')
  })

  test('an import of a directory that is not a store, or of a damaged list of images, is reported', () => {
    using world = new World()
    assert.equal(failureOf(world, 'import', '--from-mesos', world.folder).code, 'SOURCE_NOT_FOUND')
    const store = join(world.folder, 'store/docker')
    mkdirSync(store, { recursive: true })
    const path = join(store, 'storedImages')
    writeFileSync(path, '')
    const empty = JSON.parse(ok(world.loam('--json', 'import', '--from-mesos', world.folder)).stdout)
    assert.deepEqual([empty.images, empty.failed], [[], []])
    for (const bytes of [
      Buffer.from([1]),
      Buffer.from([255, 255, 255, 127]),
      Buffer.from([2, 0, 0, 0, 10, 200]),
      Buffer.from([3, 0, 0, 0, 10, 1, 15]),
    ]) {
      writeFileSync(path, bytes)
      const result = world.loam('--json', 'import', '--from-mesos', world.folder)
      assert.equal(result.status, 1)
      assert.equal(JSON.parse(result.stdout).failed.length, 1)
    }
  })
})
