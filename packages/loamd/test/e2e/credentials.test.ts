// Private images by CRI, as kubelet pulls them through loamd: with containerd of Debian 12 and of Debian's newest release.
import assert from 'node:assert/strict'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, test } from 'node:test'
import { connectLoam } from 'loamfs/client'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import { CONTAINERD_1, CONTAINERD_2, type ContainerdRelease } from '../support/containerd-release.ts'
import { Cri } from '../support/cri.ts'
import { get } from '../support/http.ts'
import { DaemonWorld, ok, pushImage, until } from '../support/world.ts'

const USER = 'anna'
const PASSWORD = 'Zugang-4711-Wort'
const ACCOUNT = `${USER}:${PASSWORD}`
const AUTH = { username: USER, password: PASSWORD }
const ENCODED = Buffer.from(ACCOUNT).toString('base64')
const LAYERS = 2

for (const release of [CONTAINERD_1, CONTAINERD_2]) {
  describe(`pulls by CRI of containerd ${release.version} through loamd`, { skip: release.skip }, () => {
    testRelease(release)
  })
}

function testRelease(release: ContainerdRelease): void {
  let world: DaemonWorld
  /** Through loamd, as with kubelet's --image-service-endpoint. */
  let cri: Cri
  /** Past loamd. */
  let direct: Cri
  let image = ''
  const daemonArgs = () => ['--containerd-socket', world.containerdSocket]
  setUp(async (held) => {
    world = held.use(new DaemonWorld(release))
    await world.startRegistry(ACCOUNT)
    await world.startDaemon(...daemonArgs())
    pushImage(world, 'private:1', { account: ACCOUNT })
    image = `${world.registryHost}/private:1`
    for (const folder of ['cni', 'logs']) mkdirSync(world.path(folder))
    await world.startContainerdWithPods(image)
    cri = new Cri(world.containerdSocket, world.path('logs'), world.path('state', 'image-service.sock'))
    direct = new Cri(world.containerdSocket, world.path('logs'))
    held.defer(() => {
      cri.close()
      direct.close()
    })
    await until(async () => canAsk(cri), 'CRI answers through loamd', 100)
  })
  const layers = () => readdirSync(`${world.root}/layers`).length
  const snapshots = () => readdirSync(`${world.root}/snapshots`).length
  const warnings = () =>
    readFileSync(world.log('loamd'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('left a layer to containerd'))
      .map((line): Record<string, string> => JSON.parse(line))
  /** Whose each layer is, and its image, as `loam snapshot list` shows them. */
  const listed = () =>
    ok(world.loam('snapshot', 'list'))
      .stdout.split('\n')
      .flatMap((line) => [/ committed +(loam|unpacked) +(\S+) /.exec(line)?.slice(1) ?? []])
      .filter((found) => found.length > 0)
  const leftByCause = async () => {
    const { body } = await get(world.apiSocket, '/metrics')
    const counts = body.matchAll(/^loam_layers_left_total\{cause="([^"]*)"\} (\d+)$/gm)
    return new Map([...counts].map(([, cause = '', count]) => [cause, Number(count)]))
  }
  afterEach(async () => {
    const list = ok(world.ctrIn('k8s.io', 'images', 'ls', '-q')).stdout
    for (const name of list.split('\n').filter(Boolean))
      ok(world.ctrIn('k8s.io', 'images', 'rm', '--sync', name))
    await until(async () => layers() + snapshots() === 0, 'containerd has removed its snapshots')
    world.takeRequests()
  })

  test('the layers of a private image are fetched with the credentials of its pull, after one refusal', async () => {
    world.takeRequests()
    await cri.pull(image, AUTH)
    assert.deepEqual([layers(), snapshots()], [LAYERS, 0])
    assert.deepEqual(listed(), [
      ['loam', image],
      ['loam', image],
    ])
    const answers = world.takeAnswers().filter(({ isLoam }) => isLoam)
    assert.deepEqual(
      answers.filter(({ status }) => status !== 200).map(({ status }) => status),
      [401],
    )
    const fetched = answers.filter(({ path, status }) => path.includes('/blobs/') && status === 200)
    // Two layers and the config, each once.
    assert.deepEqual([fetched.length, new Set(fetched.map(({ path }) => path)).size], [3, 3])
    assert.deepEqual(warnings(), [])
  })

  test('the password of a pull is in no file of the store, the state and the log, also after a restart', async () => {
    const check = () => {
      for (const folder of [world.root, world.state]) checkFolder(folder)
      assert.equal(findSecret(world.log('loamd')), undefined)
    }
    await cri.pull(image, { auth: ENCODED })
    assert.equal(layers(), LAYERS)
    check()
    await world.stop('loamd', 'SIGKILL')
    await world.restartDaemon(...daemonArgs())
    check()
    await cri.removeImage(image)
    await until(async () => layers() === 0, 'containerd has removed its snapshots')
    // The daemon knows it no longer, and gets it again.
    await until(async () => canAsk(cri), 'CRI answers through loamd', 100)
    await cri.pull(image, AUTH)
    assert.equal(layers(), LAYERS)
    check()
  })

  test('credentials that are refused do not keep those of another pull from being used', async () => {
    const wrong = { username: USER, password: 'another-password' }
    await assert.rejects(cri.pull(image), /401|authorization|unauthorized/i)
    await assert.rejects(cri.pull(image, wrong), /401|authorization|unauthorized/i)
    const pulls = [cri.pull(image, AUTH), cri.pull(image, wrong), cri.pull(image, wrong)]
    const [right] = await Promise.allSettled(pulls)
    assert.equal(right?.status, 'fulfilled')
    assert.deepEqual([layers(), snapshots()], [LAYERS, 0])
  })

  test('a credential for another server is not used', async () => {
    await assert.rejects(
      cri.pull(image, { ...AUTH, server_address: 'https://registry.test' }),
      /401|authorization|unauthorized/i,
    )
    assert.equal(layers(), 0)
  })

  test('the credentials of a node are a file that changes, as Kubernetes mounts a secret, and a provider of the kubelet', async () => {
    const secret = world.path('secret')
    const version = (name: string, password: string) => {
      const data = Buffer.from(`${USER}:${password}`).toString('base64')
      mkdirSync(join(secret, name), { recursive: true })
      const auths = { [world.registryHost]: { auth: data } }
      writeFileSync(join(secret, name, '.dockerconfigjson'), JSON.stringify({ auths }))
      symlinkSync(name, join(secret, 'next'))
      renameSync(join(secret, 'next'), join(secret, '..data'))
    }
    const pull = async (isLoams: boolean) => {
      await direct.pull(image, AUTH)
      assert.deepEqual([layers(), snapshots()], isLoams ? [LAYERS, 0] : [0, LAYERS])
      await direct.removeImage(image)
      await until(async () => layers() + snapshots() === 0, 'containerd has removed its snapshots')
    }
    const restart = async (env: NodeJS.ProcessEnv) => {
      await world.stop('loamd')
      await world.startDaemonWith(env, ...daemonArgs())
      const probe = () => world.ctr('snapshots', '--snapshotter', 'loam', 'prepare', 'probe').status === 0
      await until(async () => probe(), 'containerd reaches loamd')
      ok(world.ctr('snapshots', '--snapshotter', 'loam', 'rm', 'probe'))
    }
    version('..1', 'expired-password')
    symlinkSync('..data/.dockerconfigjson', join(secret, '.dockerconfigjson'))
    await restart({ LOAM_DOCKER_CONFIG: join(secret, '.dockerconfigjson') })
    await pull(false)
    version('..2', PASSWORD)
    await pull(true)
    await restart(writeProvider(world))
    await pull(true)
    await restart({})
    await until(async () => canAsk(cri), 'CRI answers through loamd', 100)
  })

  test('a layer that Loam has no credentials for is left to containerd, and the log says what to do', async () => {
    const before = warnings().length
    const counted = await leftByCause()
    await using daemon = await connectLoam({ socket: world.apiSocket })
    const stop = new AbortController()
    const events = daemon.events({ operations: ['snapshots.leave'], kinds: ['end'] }, { signal: stop.signal })
    const event = events[Symbol.asyncIterator]().next()
    await direct.pull(image, AUTH)
    assert.deepEqual([layers(), snapshots()], [0, LAYERS])
    const [first, ...others] = warnings().slice(before)
    assert.equal(first?.['level'], 'warn')
    assert.deepEqual([first?.['image'], first?.['cause']], [image, 'REGISTRY_UNAUTHORIZED'])
    assert.match(first?.['reason'] ?? '', /401/)
    assert.match(first?.['remedy'] ?? '', /--image-service-endpoint.*pull it again/)
    assert.deepEqual(
      others.map(({ cause }) => cause),
      ['unpacked-parent'],
    )
    const { value } = await event
    stop.abort()
    assert.deepEqual(
      value?.kind === 'end' && [
        value.attributes['image'],
        value.attributes['cause'],
        value.attributes['remedy'],
      ],
      [image, 'REGISTRY_UNAUTHORIZED', first?.['remedy']],
    )
    assert.deepEqual(listed(), [
      ['unpacked', image],
      ['unpacked', image],
    ])
    const now = await leftByCause()
    for (const cause of ['REGISTRY_UNAUTHORIZED', 'unpacked-parent'])
      assert.equal((now.get(cause) ?? 0) - (counted.get(cause) ?? 0), 1, cause)
  })
}

/** Writes a credential provider for the registry, and returns the settings that name it. */
function writeProvider(world: DaemonWorld): NodeJS.ProcessEnv {
  const apiVersion = 'credentialprovider.kubelet.k8s.io/v1'
  const account = { username: USER, password: PASSWORD }
  const answer = {
    kind: 'CredentialProviderResponse',
    apiVersion,
    cacheKeyType: 'Registry',
    auth: { [world.registryHost]: account },
  }
  const program = world.path('provider')
  writeFileSync(program, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(answer)}\nEND\n`)
  chmodSync(program, 0o755)
  const provider = {
    name: 'provider',
    matchImages: [world.registryHost],
    defaultCacheDuration: '1h',
    apiVersion,
  }
  const config = { kind: 'CredentialProviderConfig', providers: [provider] }
  writeFileSync(world.path('providers.json'), JSON.stringify(config))
  return {
    LOAM_IMAGE_CREDENTIAL_PROVIDER_CONFIG: world.path('providers.json'),
    LOAM_IMAGE_CREDENTIAL_PROVIDER_BIN_DIR: world.folder,
  }
}

async function canAsk(cri: Cri): Promise<boolean> {
  try {
    await cri.imageFileSystem()
    return true
  } catch {
    return false
  }
}

function checkFolder(folder: string): void {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) assert.equal(findSecret(path), undefined, path)
  }
}

function findSecret(path: string): string | undefined {
  const text = readFileSync(path, 'latin1')
  return [PASSWORD, ENCODED].find((secret) => text.includes(secret))
}
