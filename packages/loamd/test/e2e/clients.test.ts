// containerd of Debian 12 and of Debian's newest release, each with the configuration that `loamd configure` writes: pods by CRI, pulls by
// containerd itself, and a node that loses its daemons.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, test } from 'node:test'
import { parse as parseToml } from 'smol-toml'
import { hostPlatform } from '../../../loam/src/linux/index.ts'
import { tableIn } from '../../../loam/src/nodes/containerd-files.ts'
import {
  CRI_IMAGES,
  CRI_OLD,
  CRI_RUNTIME,
  readContainerdSettings,
} from '../../../loam/src/nodes/containerd-settings.ts'
import type { FetchedContent } from '../../../loam/src/index.ts'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { containerdConfig, type NodeFinding, type NodeReport } from '../../../loam/src/nodes/index.ts'
import { CONTAINERD_1, CONTAINERD_2, type ContainerdRelease } from '../support/containerd-release.ts'
import { Cri } from '../support/cri.ts'
import { DaemonWorld, must, ok, pushImage, until } from '../support/world.ts'

const LOAM = ['--snapshotter', 'loam'] as const
const IDLE = ['/bin/sh', '-c', 'sleep 1000']

for (const release of [CONTAINERD_1, CONTAINERD_2]) {
  describe(`containerd ${release.version} with the configuration of the documents`, {
    skip: release.skip,
  }, () => {
    testRelease(release)
  })
}

function testRelease(release: ContainerdRelease): void {
  const isOld = release === CONTAINERD_1
  const isShown = isOld && 'e2e/containerd shows it'
  let world: DaemonWorld
  let cri: Cri
  let image = ''
  let pause = ''
  const ofContainerd = () => ['--containerd-socket', world.containerdSocket]
  setUp(async (held) => {
    world = held.use(new DaemonWorld(release))
    await world.startRegistry()
    await world.startDaemon(...ofContainerd())
    pushImage(world, 'pause:1', { command: IDLE })
    pushImage(world, 'tiny:1')
    image = `${world.registryHost}/tiny:1`
    pause = `${world.registryHost}/pause:1`
    for (const folder of ['cni/bin', 'logs']) mkdirSync(world.path(folder), { recursive: true })
    writeNetwork(world.path('cni'))
    await world.startContainerdWithPods(pause)
    cri = new Cri(world.containerdSocket, world.path('logs'))
    held.defer(() => {
      cri.close()
    })
    await until(async () => cri.isReady(), 'CRI answers', 100)
  })

  /** What CRI's calls have left, by namespace. */
  const pods = (...words: readonly string[]) => ok(world.ctrIn('k8s.io', ...words)).stdout
  const left = () => ['snapshots', 'layers'].flatMap((name) => readdirSync(`${world.root}/${name}`))
  const removeAll = () => {
    for (const namespace of [undefined, 'k8s.io']) {
      const list = ok(world.ctrIn(namespace, 'images', 'ls', '-q')).stdout
      for (const name of list.split('\n').filter(Boolean))
        ok(world.ctrIn(namespace, 'images', 'rm', '--sync', name))
    }
  }
  /** Each test begins without images. */
  afterEach(async () => {
    removeAll()
    await until(async () => left().length === 0, 'containerd has removed its snapshots')
    world.takeRequests()
  })

  test('loam doctor finds that all of it is right, once what it asks for is done', () => {
    const examine = () => world.loam('--json', 'doctor', '--containerd', world.containerdConfig)
    const findings = () => (JSON.parse(examine().stdout) as { containerd: NodeReport }).containerd.findings
    if (isOld) {
      const missing = findings().filter(({ status }) => status !== 'right')
      assert.deepEqual(
        missing.map(({ what, status }) => [what, status]),
        [['file system', 'missing']],
      )
      run(missing)
    }
    assert.deepEqual(
      findings().filter(({ status }) => status !== 'right'),
      [],
    )
    assert.equal(examine().status, 0)
    assert.ok(
      findings().some(({ what, message }) => what === 'running' && message.includes('has loaded loam')),
    )
  })

  test('containerd reads a configuration as loam doctor does, with imports, also one for another release', () => {
    const major = isOld ? 1 : 2
    const written = (version: string) =>
      containerdConfig({ version, root: world.root, socket: world.socket, platform: hostPlatform() })
    mkdirSync(world.path('conf.d'))
    const imported = `version = 2\n[plugins."${CRI_OLD}".containerd]\n  default_runtime_name = "x"\n[plugins."${CRI_IMAGES}"]\n  max_concurrent_downloads = 9\n[proxy_plugins.loam]\n  type = "snapshot"\n`
    writeFileSync(world.path('conf.d', 'more.toml'), imported)
    const runtime = (table: string, name: string) =>
      `[plugins."${table}".containerd.runtimes.${name}]\n  runtime_type = "io.containerd.runc.v2"\n  snapshotter = "native"\n`
    const texts = [written('1.6'), written('2.1')].flatMap((text) => [
      text,
      `${text}${runtime(CRI_OLD, 'old')}`,
      `${text}${runtime(CRI_OLD, 'old')}${runtime(CRI_RUNTIME, 'new')}`,
    ])
    for (const text of texts) {
      for (const imports of ['', `imports = ["${world.path('conf.d', '*.toml')}"]\n`]) {
        const path = world.path('read.toml')
        writeFileSync(path, `${imports}${text}`)
        const settings = readContainerdSettings(path, major)
        const dump = parseToml(ok(world.containerd('-c', path, 'config', 'dump')).stdout)
        const plugins = tableIn(dump['plugins'])
        const ofCri = isOld ? tableIn(tableIn(plugins[CRI_OLD])['containerd']) : tableIn(plugins[CRI_IMAGES])
        const ofRuntimes = tableIn(tableIn(plugins[isOld ? CRI_OLD : CRI_RUNTIME])['containerd'])
        const names = Object.entries(tableIn(ofRuntimes['runtimes'])).flatMap(([name, each]) =>
          tableIn(each)['snapshotter'] === 'native' ? [name] : [],
        )
        const proxy = tableIn(tableIn(dump['proxy_plugins'])['loam'])
        assert.deepEqual(
          [
            settings.runtimes.defaultName,
            // containerd 1.6 ignores them.
            isOld ? [] : [...settings.runtimes.snapshotters.keys()],
            settings.cri.snapshotter ?? 'overlayfs',
            settings.cri.areAnnotationsDisabled ?? true,
            settings.proxies[0]?.address,
          ],
          [
            ofRuntimes['default_runtime_name'],
            names,
            ofCri['snapshotter'],
            ofCri['disable_snapshot_annotations'],
            proxy['address'],
          ],
          `${imports}${text}`,
        )
      }
    }
  })

  test('a pod runs on layers of Loam, and kubelet finds the file system of its images', async () => {
    await cri.pull(image)
    // Manifest and config.
    assert.equal(pods('content', 'ls', '-q').trim().split('\n').length, 2)
    assert.deepEqual(
      [readdirSync(`${world.root}/layers`).length, readdirSync(`${world.root}/snapshots`)],
      [2, []],
    )
    const pod = await cri.runPod()
    const images = isOld ? {} : { '/volume': image }
    const id = await cri.startContainer(pod, { image, command: IDLE, images })
    assert.equal(await cri.exec(id, '/bin/cat', '/etc/hello'), 'tiny:1\n')
    assert.equal(await cri.exec(id, '/bin/sh', '-c', 'echo x > /written; cat /written'), 'x\n')
    if (!isOld) {
      assert.equal(await cri.exec(id, '/bin/cat', '/volume/etc/hello'), 'tiny:1\n')
      await assert.rejects(cri.exec(id, '/bin/sh', '-c', 'echo x > /volume/written'), /Read-only file system/)
    }
    const { path } = await cri.imageFileSystem()
    assert.equal(statSync(path).dev, statSync(world.root).dev)
    await cri.removeContainer(id)
    await cri.removePod(pod)
    await cri.removeImage(image)
  })

  test('containerd exports what Loam has fetched once loam snapshot fetch has brought the blobs', async () => {
    await cri.pull(image)
    const archive = world.path('exported.tar')
    const fetch = (...words: readonly string[]) =>
      world.loam('--json', '--containerd-socket', world.containerdSocket, 'snapshot', 'fetch', ...words)
    assert.notEqual(world.ctrIn('k8s.io', 'images', 'export', archive, image).status, 0)
    const none = fetch('--namespace', 'none', image)
    assert.match(none.stderr, /IMAGE_NOT_FOUND/)
    const [fetched] = JSON.parse(ok(fetch(image)).stdout) as FetchedContent[]
    const [config, ...layers] = fetched?.blobs ?? []
    assert.deepEqual([config?.from, layers.map(({ from }) => from)], ['exists', ['source', 'source']])
    assert.match(pods('images', 'check', `name==${image}`), /complete \(3\/3\)/)
    // By its service the newer ctr ends before the last bytes are written.
    pods('images', 'export', ...(isOld ? [] : ['--local']), archive, image)
    assert.equal(must('tar', '-tf', archive).match(/blobs\/sha256\/./g)?.length, 4)
    // Its garbage collection runs when an image is removed.
    pods('images', 'tag', image, 'other.example/tiny:1')
    pods('images', 'rm', '--sync', 'other.example/tiny:1')
    assert.match(pods('images', 'check', `name==${image}`), /complete \(3\/3\)/)
    const again = JSON.parse(ok(fetch(image)).stdout) as FetchedContent[]
    assert.deepEqual(new Set(again[0]?.blobs.map(({ from }) => from)), new Set(['exists']))
    await cri.removeImage(image)
  })

  test('a pod in a user namespace shares the layers and their mount with others of its mapping, and sees the owners of the image', {
    skip: isOld && 'containerd 1.6 has no user namespaces for pods',
  }, async () => {
    await cri.pull(image)
    chmodSync(world.folder, 0o711)
    const list = ['/bin/ls', '-ln', '/etc/hello'] as const
    const runMapped = async (hostId: number) => {
      const pod = await cri.runPod([{ host_id: hostId, container_id: 0, length: 65_536 }])
      const id = await cri.startContainer(pod, { image, command: IDLE })
      assert.match(
        await cri.exec(id, '/bin/cat', '/proc/self/uid_map'),
        new RegExp(`^ +0 +${hostId} +65536$`, 'm'),
      )
      assert.match(await cri.exec(id, ...list), /^-\S+\s+1 0\s+0 /)
      assert.equal(await cri.exec(id, '/bin/sh', '-c', 'echo x > /etc/hello; cat /etc/hello'), 'x\n')
      return { pod, id }
    }
    const running = [await runMapped(100_000), await runMapped(100_000), await runMapped(300_000)]
    const mapped = world.mounts().filter((path) => path.startsWith(`${world.state}/mapped/`))
    // One for the image of the container and one for that of the sandbox, of each mapping.
    assert.equal(mapped.length, 4, mapped.join('\n'))
    assert.equal(readdirSync(`${world.root}/layers`).length, 3)
    for (const { pod, id } of running) {
      await cri.removeContainer(id)
      await cri.removePod(pod)
    }
    await cri.removeImage(image)
  })

  test('images that containerd pulls itself run, and their containers are committed and removed', {
    skip: isShown,
  }, () => {
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    assert.equal(readdirSync(`${world.root}/layers`).length, 2)
    ok(world.ctr('run', ...LOAM, image, 'c1', '/bin/sh', '-c', 'echo changed > /etc/new; rm /etc/hello'))
    const snapshots = (...words: readonly string[]) => ok(world.ctr('snapshots', ...LOAM, ...words)).stdout
    snapshots('commit', 'saved', 'c1')
    assert.match(snapshots('usage', 'saved'), /saved\s+[\d.]+ KiB\s+\d+/)
    snapshots('prepare', 'again', 'saved')
    const target = world.path('mnt')
    mkdirSync(target, { recursive: true })
    assert.equal(spawnSync('sh', ['-c', snapshots('mounts', target, 'again')]).status, 0)
    assert.equal(readFileSync(`${target}/etc/new`, 'utf8'), 'changed\n')
    assert.equal(existsSync(`${target}/etc/hello`), false)
    assert.equal(spawnSync('umount', [target]).status, 0)
    ok(world.ctr('containers', 'rm', 'c1'))
    for (const key of ['again', 'saved']) snapshots('rm', key)
  })

  test('a container in a user namespace shares the layers, and sees the owners of the image', {
    skip: isShown,
  }, () => {
    ok(world.ctr('images', 'pull', '--plain-http', ...LOAM, image))
    // root of the namespace goes through this folder.
    chmodSync(world.folder, 0o711)
    const ids = ['--uidmap', '0:100000:65536', '--gidmap', '0:100000:65536', '--remap-labels']
    const list = ['/bin/ls', '-ln', '/etc/hello']
    const { stdout } = ok(world.ctr('run', '--rm', ...LOAM, ...ids, image, 'mapped', ...list))
    assert.match(stdout, /^-\S+\s+1 0\s+0 /)
    assert.deepEqual(readdirSync(`${world.root}/layers`).length, 2)
  })

  test('another snapshotter still pulls', { skip: isShown }, () => {
    ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', image))
    assert.match(ok(world.ctr('snapshots', '--snapshotter', 'overlayfs', 'ls')).stdout, /sha256:/)
  })

  test('containers run on while loamd and containerd are killed, and both know them afterwards', {
    skip: isShown,
  }, async () => {
    await cri.pull(image)
    const pod = await cri.runPod()
    const id = await cri.startContainer(pod, { image, command: IDLE })
    await world.stop('loamd', 'SIGKILL')
    assert.equal(await cri.exec(id, '/bin/cat', '/etc/hello'), 'tiny:1\n')
    await world.stop('containerd', 'SIGKILL')
    await world.startDaemon(...ofContainerd())
    await world.startContainerdWithPods(pause)
    await until(async () => cri.isReady(), 'CRI answers', 100)
    assert.equal(await cri.exec(id, '/bin/cat', '/etc/hello'), 'tiny:1\n')
    const second = await cri.startContainer(pod, { image, command: IDLE })
    assert.equal(await cri.exec(second, '/bin/sh', '-c', 'echo y > /written; cat /written'), 'y\n')
    for (const each of [id, second]) await cri.removeContainer(each)
    await cri.removePod(pod)
    await cri.removeImage(image)
  })
}

/** The network of pods that do not use the machine's: nothing but their loopback interface, which containerd sets up by a plugin, too. */
function writeNetwork(folder: string): void {
  const answer =
    '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"%s"}],"ips":[{"address":"10.9.9.2/24"}]}'
  const program = `#!/bin/sh
case $CNI_COMMAND in
ADD) printf '${answer}' "$CNI_NETNS" ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}' ;;
esac
`
  for (const name of ['none', 'loopback']) writeFileSync(join(folder, 'bin', name), program, { mode: 0o755 })
  const list = { cniVersion: '1.0.0', name: 'none', plugins: [{ type: 'none' }] }
  writeFileSync(join(folder, '10-none.conflist'), JSON.stringify(list))
}

/** Runs the commands that findings name. */
function run(findings: readonly NodeFinding[]): void {
  for (const { run: command } of findings) {
    assert.equal(spawnSync('sh', ['-c', command ?? 'false'], { encoding: 'utf8' }).stderr, '')
  }
}
