// Real images, unpacked by containerd into snapshots of Loam, and provided by Loam itself: the same tree both ways.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { buildImage, buildTar, listTree, writeOciLayout } from 'loamfs/testing'
import { debianTar, sharedImages } from '../../../loam/test/support/world.ts'
import { must, ok, DaemonWorld } from '../support/world.ts'

interface RealImage {
  readonly name: string
  /** Layout and tag. */
  readonly from: (folder: string) => string
  /** Command that prints the expected text. */
  readonly command: readonly string[]
  readonly expected: RegExp
}

function ociImage(folder: string, name: string, tars: readonly Buffer[]): string {
  const layout = join(folder, name)
  writeOciLayout(layout, { x: buildImage({ tars: [...tars], config: { Cmd: ['/bin/sh'] } }) })
  return `${layout}:x`
}

/** Returns the images, the smallest first. */
function realImages(): RealImage[] {
  const debian: RealImage = {
    name: 'debian',
    from: (folder) => ociImage(folder, 'debian', [readFileSync(debianTar())]),
    command: ['/bin/cat', '/etc/debian_version'],
    expected: /^12\./,
  }
  const shared = sharedImages()
  if (shared === undefined) return [debian]
  const alpine = join(shared, 'alpine-minirootfs-3.20.3-x86_64.tar.gz')
  return [
    ...['busybox-musl-amd64', 'busybox-glibc-amd64'].map((name) => ({
      name,
      from: () => join(shared, name),
      command: ['/bin/busybox', 'echo', 'hello'],
      expected: /^hello\n/,
    })),
    {
      name: 'alpine',
      from: (folder) => ociImage(folder, 'alpine', [gunzipSync(readFileSync(alpine))]),
      command: ['/bin/cat', '/etc/alpine-release'],
      expected: /^3\.20\.3/,
    },
    debian,
  ]
}

/** The snapshot that is not a parent. */
function topSnapshot(world: DaemonWorld): string {
  const lines = ok(world.ctr('snapshots', '--snapshotter', 'loam', 'ls'))
    .stdout.trim()
    .split('\n')
    .slice(1)
  const rows = lines.map((line) => line.split(/\s+/))
  const parents = new Set(rows.map(([, parent]) => parent))
  return rows.find(([key]) => !parents.has(key))?.[0] ?? ''
}

/** Pulls, runs, executes in, commits, removes and collects, and returns the tree. */
function useImage(
  world: DaemonWorld,
  pull: (image: string) => void,
  { name, command, expected }: RealImage,
): string[] {
  const image = `${world.registryHost}/${name}:1`
  const loam = ['--snapshotter', 'loam'] as const
  pull(image)
  const mount = world.path('mount')
  mkdirSync(mount, { recursive: true })
  // containerd may be collecting unused content.
  for (let tries = 0; ; tries += 1) {
    world.ctr('snapshots', ...loam, 'view', 'seen', topSnapshot(world))
    if (world.ctr('snapshots', ...loam, 'label', 'seen', 'containerd.io/gc.root=test').status === 0) break
    assert.ok(tries < 5)
  }
  must('sh', '-c', ok(world.ctr('snapshots', ...loam, 'mounts', mount, 'seen')).stdout)
  // containerd does not set the time of the root.
  const tree = listTree(mount).map((line, index) => (index === 0 ? line.replace(/ t=\d+$/, '') : line))
  must('umount', mount)
  ok(world.ctr('snapshots', ...loam, 'rm', 'seen'))
  assert.match(ok(world.ctr('run', '--rm', ...loam, image, 'once', ...command)).stdout, expected)
  const [shell = ''] = command
  const sleeper = shell === '/bin/cat' ? ['/bin/sleep', '60'] : [shell, 'sleep', '60']
  ok(world.ctr('run', '--detach', ...loam, image, 'long', ...sleeper))
  // On a busy machine ctr of 1.6 may end before it has copied the output.
  const enter = (tries: number) =>
    ok(world.ctr('tasks', 'exec', '--exec-id', `e${tries}`, 'long', ...command)).stdout
  let output = enter(0)
  for (let tries = 1; output === '' && tries < 5; tries += 1) output = enter(tries)
  assert.match(output, expected)
  ok(world.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'long'))
  for (let tries = 0; world.ctr('tasks', 'rm', 'long').status !== 0; tries += 1) assert.ok(tries < 100)
  ok(world.ctr('snapshots', ...loam, 'commit', 'kept', 'long'))
  ok(world.ctr('snapshots', ...loam, 'prepare', 'on-it', 'kept'))
  for (const key of ['on-it', 'kept']) ok(world.ctr('snapshots', ...loam, 'rm', key))
  ok(world.ctr('containers', 'rm', 'long'))
  ok(world.ctr('images', 'rm', '--sync', image))
  assert.equal(
    ok(world.ctr('snapshots', ...loam, 'ls'))
      .stdout.trim()
      .split('\n').length,
    1,
    'only its head',
  )
  assert.deepEqual(readdirSync(join(world.root, 'snapshots')), [])
  return tree
}

describe('real images', () => {
  test('real images are the same unpacked by containerd and by Loam, run, are committed, and are removed', async () => {
    await using world = new DaemonWorld()
    await world.startRegistry()
    await world.startDaemon()
    await world.startContainerd()
    for (const image of realImages()) {
      const from = image.from(world.folder)
      must(
        'skopeo',
        'copy',
        '--quiet',
        '--insecure-policy',
        '--dest-tls-verify=false',
        `oci:${from}`,
        `docker://${world.registryHost}/${image.name}:1`,
      )
      const unpacked = useImage(
        world,
        (name) => ok(world.ctr('images', 'pull', '--plain-http', '--snapshotter', 'loam', name)),
        image,
      )
      assert.equal(readdirSync(join(world.root, 'layers')).length, 0)
      const remote = useImage(
        world,
        (name) => ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', name)),
        image,
      )
      assert.deepEqual(remote, unpacked, image.name)
      // The layers are not needed any more.
      ok(world.loam('prune'))
      assert.deepEqual(readdirSync(join(world.root, 'layers')), [])
      rmSync(world.path('mount'), { recursive: true })
    }
  })
})

describe('a layer with xattrs that Loam leaves out', () => {
  test('a layer with xattrs that Loam leaves out is accepted, and the log names them', async () => {
    await using world = new DaemonWorld()
    await world.startRegistry()
    await world.startDaemon()
    await world.startContainerd()
    const tar = buildTar([{ name: 'f', xattrs: { 'com.apple.quarantine': '1' } }])
    const from = ociImage(world.folder, 'apple', [tar])
    const image = `${world.registryHost}/apple:1`
    must(
      'skopeo',
      'copy',
      '--quiet',
      '--insecure-policy',
      '--dest-tls-verify=false',
      `oci:${from}`,
      `docker://${image}`,
    )
    ok(world.ctrRemote('images', 'rpull', '--plain-http', '--snapshotter', 'loam', image))
    assert.match(
      readFileSync(world.log('loamd'), 'utf8'),
      /"took a layer".*one file without unsupported xattrs: com\.apple\.quarantine/,
    )
  })
})
