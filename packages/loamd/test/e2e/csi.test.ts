// The CSI driver over its socket, after the specification: each call and each error, with real mounts and registries.
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { create } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { digestOf } from '../../../loam/src/image/index.ts'
import { canConnect } from '../../../loam/src/linux/index.ts'
import { setUp } from '../../../loam/src/testing/set-up.ts'
import {
  Controller,
  Identity,
  Node,
  VolumeCapability_AccessMode_Mode as Mode,
  type VolumeCapability,
  VolumeCapabilitySchema,
  VolumeUsage_Unit as Unit,
  VolumeUsageSchema,
} from '../../gen/csi_pb.js'
import { capability, CsiClient, failsWith } from '../support/csi.ts'
import { DaemonWorld, LOAMD, must, pushImage, until } from '../support/world.ts'

const WRITER = capability()
const BLOCK = create(VolumeCapabilitySchema, {
  accessType: { case: 'block', value: {} },
  accessMode: { mode: Mode.SINGLE_NODE_WRITER },
})
const NONE = create(VolumeUsageSchema)
const EPHEMERAL = { 'csi.storage.k8s.io/ephemeral': 'true' }

interface PublishRequest {
  readonly volumeId: string
  readonly targetPath: string
  readonly volumeCapability?: VolumeCapability
  readonly volumeContext: Record<string, string>
  readonly readonly?: boolean
  readonly secrets?: Record<string, string>
}

describe('the CSI driver', () => {
  let world: DaemonWorld
  let registry: RegistryServer
  let csi: CsiClient
  let image = ''
  let socket = ''
  let kubelet = ''
  const tiny = buildImage({ tars: [buildTar([{ name: 'file', data: 'one\n' }])] })

  const start = async (more: NodeJS.ProcessEnv = {}) => {
    const env = { LOAM_CSI_CONTROLLER: 'true', LOAM_CSI_NODE_ID: 'node-1', ...more }
    await world.startDaemonWith(env, '--csi-socket', socket)
    await until(async () => canConnect(socket), 'the driver listens', 50)
    csi = new CsiClient(socket)
  }
  /** A connection without calls would hold a daemon that stops. */
  const stop = async (signal: NodeJS.Signals) => {
    csi[Symbol.dispose]()
    await world.stop('loamd', signal)
  }
  setUp(async (held) => {
    world = held.use(new DaemonWorld())
    socket = world.path('csi', 'csi.sock')
    kubelet = world.path('kubelet')
    mkdirSync(join(kubelet, 'pods'), { recursive: true })
    registry = held.use(await RegistryServer.start())
    registry.addImage('tiny', '1', tiny)
    await world.startRegistry()
    pushImage(world, 'app:1')
    image = `${world.registryHost}/app:1`
    await start()
    held.defer(() => {
      csi[Symbol.dispose]()
    })
  })

  /** The target of a pod's volume; the kubelet creates its parent. */
  const targetOf = (pod: string) => {
    const target = join(kubelet, 'pods', pod, 'volumes', 'kubernetes.io~csi', 'data', 'mount')
    mkdirSync(dirname(target), { recursive: true })
    return target
  }
  const request = (
    pod: string,
    attributes: Record<string, string> = {},
    more: Partial<PublishRequest> = {},
  ): PublishRequest => ({
    volumeId: `csi-${pod}`,
    targetPath: targetOf(pod),
    volumeCapability: WRITER,
    volumeContext: { ...EPHEMERAL, image, ...attributes },
    ...more,
  })
  const publish = async (given: PublishRequest, limitMs?: number) =>
    csi.call(Node.method.nodePublishVolume, given, limitMs)
  const unpublish = async ({ volumeId, targetPath }: Pick<PublishRequest, 'volumeId' | 'targetPath'>) =>
    csi.call(Node.method.nodeUnpublishVolume, { volumeId, targetPath })
  const stats = async (volumeId: string, volumePath: string) =>
    csi.call(Node.method.nodeGetVolumeStats, { volumeId, volumePath })
  const read = ({ targetPath }: PublishRequest, name: string) => readFileSync(join(targetPath, name), 'utf8')
  /** From now on the registry asks for a password before it answers for a repository. */
  const requirePassword = (repository: string, user: string, password: string) => {
    const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
    registry.intercept = (asked, response) => {
      if (asked.url?.includes(`/${repository}/`) !== true || asked.headers.authorization === basic)
        return false
      response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
      return true
    }
  }
  const containers = () =>
    readdirSync(join(world.root, 'containers')).filter((name) => name.startsWith('csi-'))

  test('the identity service names the driver and its version, and says that it is ready', async () => {
    const { name, vendorVersion } = await csi.call(Identity.method.getPluginInfo, {})
    assert.deepEqual([name, /^\d+\.\d+\.\d+/.test(vendorVersion)], ['csi.loam', true])
    assert.equal((await csi.call(Identity.method.probe, {})).ready, true)
  })

  test('the node service names its node, and has the one capability of measuring volumes', async () => {
    const { nodeId, maxVolumesPerNode } = await csi.call(Node.method.nodeGetInfo, {})
    assert.deepEqual([nodeId, maxVolumesPerNode], ['node-1', 0n])
    const { capabilities } = await csi.call(Node.method.nodeGetCapabilities, {})
    assert.deepEqual(
      capabilities.map(({ type }) => type.case === 'rpc' && type.value.type),
      [2],
    )
    const volume = { volumeId: 'v', volumeCapability: WRITER, stagingTargetPath: world.path('staging') }
    await failsWith(csi.call(Node.method.nodeStageVolume, volume), status.UNIMPLEMENTED)
    await failsWith(csi.call(Node.method.nodeUnstageVolume, volume), status.UNIMPLEMENTED)
    await failsWith(
      csi.call(Node.method.nodeExpandVolume, { volumeId: 'v', volumePath: '/x' }),
      status.UNIMPLEMENTED,
    )
  })

  test('an ephemeral volume is writable, each with changes of its own, and unpublishing removes its target and all of it', async () => {
    const [one, other] = [request('pod-a'), request('pod-b')]
    await publish(one)
    await publish(other)
    assert.equal(read(one, 'etc/hello'), 'app:1\n')
    assert.equal(existsSync(join(targetOf('pod-a'), 'etc/gone')), false)
    writeFileSync(join(targetOf('pod-a'), 'etc/new'), 'written')
    assert.deepEqual([existsSync(join(targetOf('pod-b'), 'etc/new')), containers().length], [false, 2])
    for (const each of [one, other, other]) await unpublish(each)
    assert.deepEqual(
      [existsSync(targetOf('pod-a')), existsSync(targetOf('pod-b')), containers()],
      [false, false, []],
    )
    assert.deepEqual(
      world.mounts().filter((path) => path.startsWith(kubelet)),
      [],
    )
  })

  test('publishing the same volume again is not an error, and another one at its target is ALREADY_EXISTS', async () => {
    const one = request('again')
    await publish(one)
    writeFileSync(join(targetOf('again'), 'kept'), 'x')
    // Those of a secret, or of a service account, that has changed meanwhile.
    const tokens = { 'csi.storage.k8s.io/serviceAccount.tokens': 'null' }
    for (const secrets of [
      { username: 'u', password: 'changed' },
      { 'tls.crt': 'x' },
      { '.dockerconfigjson': 'x' },
      tokens,
    ])
      await publish({ ...one, secrets })
    await publish(request('again', tokens))
    assert.equal(read(one, 'kept'), 'x')
    for (const other of [
      request('again', { readOnly: 'true' }),
      request('again', { subPath: 'etc' }),
      request('again', { image: `${registry.host}/tiny:1` }),
      request('again', {}, { volumeId: 'other' }),
      request('again', {}, { readonly: true }),
    ])
      await failsWith(publish(other), status.ALREADY_EXISTS)
    await unpublish({ ...one, volumeId: 'other' })
    assert.equal(read(one, 'kept'), 'x')
    await unpublish(one)
  })

  test('twenty calls at once for four volumes make four', async () => {
    const volumes = ['m1', 'm2', 'm3', 'm4'].map((pod) => request(pod))
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => publish(volumes[index % 4] ?? request('m1'))),
    )
    assert.equal(containers().length, 4)
    assert.deepEqual(
      world
        .mounts()
        .filter((path) => path.startsWith(kubelet))
        .toSorted(),
      volumes.map(({ targetPath }) => targetPath),
    )
    await Promise.all([...volumes, ...volumes].map(unpublish))
    assert.deepEqual(
      [containers(), readdirSync(join(kubelet, 'pods', 'm1', 'volumes', 'kubernetes.io~csi', 'data'))],
      [[], []],
    )
  })

  test('a persistent volume is read-only, whichever way that is said, and its handle may be the image', async () => {
    const persistent = (name: string, more: Partial<PublishRequest>): PublishRequest => ({
      ...request(name, {}, { volumeContext: {}, volumeId: image }),
      ...more,
    })
    for (const [index, volume] of [
      persistent('pv-0', { volumeCapability: capability(Mode.MULTI_NODE_READER_ONLY) }),
      persistent('pv-1', { readonly: true }),
      persistent('pv-2', { volumeContext: { image, readOnly: 'true' }, volumeId: 'handle' }),
      persistent('pv-3', {
        volumeCapability: capability(Mode.SINGLE_NODE_WRITER, { mountFlags: ['ro'] }),
      }),
    ].entries()) {
      await publish(volume)
      assert.equal(read(volume, 'etc/hello'), 'app:1\n', `${index}`)
      assert.throws(
        () => {
          writeFileSync(join(volume.targetPath, 'new'), '')
        },
        { code: 'EROFS' },
      )
      await unpublish(volume)
    }
    await failsWith(
      publish(persistent('pv-4', {})),
      status.INVALID_ARGUMENT,
      /persistent volume of an image is read-only/,
    )
  })

  test('subPath mounts a directory of the image, with symlinks resolved inside it, and never anything of the node', async () => {
    const tar = buildTar([
      { name: 'data/deep/file', data: 'deep\n' },
      { name: 'inside', type: 'symlink', linkName: '/data/deep' },
      { name: 'host', type: 'symlink', linkName: '../../../../../../etc' },
      { name: 'plain', data: 'x' },
    ])
    registry.addImage('paths', '1', buildImage({ tars: [tar] }))
    const volume = (subPath: string) => request('sub', { image: `${registry.host}/paths:1`, subPath })
    for (const subPath of ['data/deep', './data//deep/', 'inside']) {
      await publish(volume(subPath))
      assert.equal(read(volume(subPath), 'file'), 'deep\n')
      writeFileSync(join(targetOf('sub'), 'new'), 'x')
      await unpublish(volume(subPath))
    }
    for (const subPath of ['missing', 'host', 'plain'])
      await failsWith(publish(volume(subPath)), status.NOT_FOUND, /no such directory/)
    for (const subPath of ['../etc', '/etc', 'a/../../etc', 'a\0b'])
      await failsWith(publish(volume(subPath)), status.INVALID_ARGUMENT, /subPath/)
    assert.deepEqual([existsSync(targetOf('sub')), containers()], [false, []])
  })

  test('pullPolicy decides when the registry is asked, as in Kubernetes, and pullAlways is another way to write it', async () => {
    registry.addImage('policy', '1', tiny)
    registry.addImage('policy', 'latest', tiny)
    const at = (tag: string, attributes: Record<string, string>) =>
      request('policy', { image: `${registry.host}/policy${tag}`, ...attributes })
    await failsWith(
      publish(at(':1', { pullPolicy: 'Never' })),
      status.NOT_FOUND,
      /pullPolicy is Never\. Pull it on this node: loam pull /,
    )
    const asks = async (tag: string, attributes: Record<string, string>) => {
      const before = registry.requests.length
      await publish(at(tag, attributes))
      await unpublish(at(tag, attributes))
      return registry.requests.slice(before).some((path) => path.includes('/manifests/'))
    }
    assert.equal(await asks(':1', {}), true)
    assert.equal(await asks(':latest', {}), true)
    assert.deepEqual(
      [
        await asks(':1', {}),
        await asks(':1', { pullPolicy: 'IfNotPresent' }),
        await asks(':1', { pullPolicy: 'Never' }),
        await asks(':1', { pullAlways: 'false' }),
        await asks(':latest', { pullAlways: 'false' }),
      ],
      [false, false, false, false, false],
    )
    assert.deepEqual(
      [
        await asks(':1', { pullPolicy: 'Always' }),
        await asks(':1', { pullAlways: 'true' }),
        await asks('', {}),
      ],
      [true, true, true],
    )
  })

  test('platform chooses the image of another architecture, and one that does not exist is NOT_FOUND', async () => {
    const arm = buildImage({
      tars: [buildTar([{ name: 'arch', data: 'arm64' }])],
      config: {},
      platform: { os: 'linux', architecture: 'arm64' },
    })
    registry.addImage('arm', '1', arm)
    const volume = (platform: string) => request('arm', { image: `${registry.host}/arm:1`, platform })
    await publish(volume('linux/arm64'))
    assert.equal(read(volume('linux/arm64'), 'arch'), 'arm64')
    await unpublish(volume('linux/arm64'))
    await failsWith(publish(volume('linux/s390x')), status.NOT_FOUND)
    await failsWith(publish(volume('nonsense')), status.INVALID_ARGUMENT)
  })

  test('a request that lacks something, or asks for what a volume cannot be, is INVALID_ARGUMENT', async () => {
    const good = request('bad')
    const cases: [PublishRequest, RegExp][] = [
      [{ ...good, volumeId: '' }, /volume_id/],
      [{ ...good, targetPath: '' }, /target_path/],
      [{ ...good, targetPath: 'relative' }, /target_path/],
      [{ ...good, targetPath: `${kubelet}/../x` }, /target_path/],
      [{ ...good, targetPath: '/' }, /target_path/],
      [{ ...good, targetPath: `${targetOf('bad')}${'n'.repeat(300)}` }, /target_path: a name .*255/],
      [{ ...good, targetPath: join(kubelet, 'n'.repeat(300), 'pods', 'mount') }, /target_path: a name/],
      [
        { volumeId: 'v', targetPath: targetOf('bad'), volumeContext: good.volumeContext },
        /volume_capability/,
      ],
      [
        {
          ...good,
          volumeCapability: create(VolumeCapabilitySchema, { accessMode: { mode: Mode.SINGLE_NODE_WRITER } }),
        },
        /volume_capability/,
      ],
      [{ ...good, volumeCapability: capability(Mode.UNKNOWN) }, /access mode/],
      [{ ...good, volumeCapability: BLOCK }, /block device/],
      [
        {
          ...good,
          volumeCapability: capability(Mode.SINGLE_NODE_WRITER, { fsType: 'ext4' }),
        },
        /fs_type/,
      ],
      [
        {
          ...good,
          volumeCapability: capability(Mode.SINGLE_NODE_WRITER, { mountFlags: ['password=x'] }),
        },
        /mount_flags/,
      ],
      [{ ...good, volumeContext: EPHEMERAL }, /image/],
      [request('bad', { image: 'Not A Reference' }), /./],
      [request('bad', { image: `oci:${world.folder}` }), /./],
      [request('bad', { image: '/etc' }), /./],
      [request('bad', { image: tiny.manifest.digest }), /digest/],
      [request('bad', { readonly: 'true' }), /no such attribute/],
      [request('bad', { readOnly: 'yes' }), /readOnly/],
      [request('bad', { pullPolicy: 'Sometimes' }), /pullPolicy/],
      [request('bad', { pullPolicy: 'Always', pullAlways: 'true' }), /pullAlways/],
      [request('bad', { size: '1 GB' }), /size/],
      [request('bad', { size: '1Mi' }), /size/],
      [request('bad', { size: '1Gi', readOnly: 'true' }), /size/],
    ]
    for (const [bad, text] of cases) await failsWith(publish(bad), status.INVALID_ARGUMENT, text)
    assert.deepEqual([existsSync(targetOf('bad')), containers()], [false, []])
  })

  test('an artifact is a volume of its files by their titles, and a name that leads out of it is INVALID_ARGUMENT', async () => {
    const titled = (title: string | undefined, data: string, more: Record<string, string> = {}) => {
      const bytes = Buffer.from(data)
      const blob = { digest: digestOf(bytes) }
      registry.setBlob(blob.digest, bytes)
      const named = title === undefined ? {} : { 'org.opencontainers.image.title': title }
      const annotations = { ...named, ...more }
      return { mediaType: 'application/octet-stream', digest: blob.digest, size: bytes.length, annotations }
    }
    const push = (tag: string, layers: readonly ReturnType<typeof titled>[]) => {
      const config = { ...titled(undefined, '{}'), mediaType: 'application/vnd.oci.empty.v1+json' }
      const mediaType = 'application/vnd.oci.image.manifest.v1+json'
      const artifactType = 'application/vnd.example.model'
      const document = { schemaVersion: 2, mediaType, artifactType, config, layers }
      const bytes = Buffer.from(JSON.stringify(document))
      registry.addManifest('model', tag, { digest: digestOf(bytes), bytes }, mediaType)
      return { image: `${registry.host}/model:${tag}` }
    }
    const unnamed = titled(undefined, 'no name')
    const files = [titled('weights.bin', 'weights'), titled('conf/model.json', '{"layers": 1}'), unnamed]
    const volume = request('model', push('1', files))
    await publish(volume)
    assert.equal(read(volume, 'weights.bin'), 'weights')
    assert.equal(read(volume, 'conf/model.json'), '{"layers": 1}')
    assert.equal(read(volume, unnamed.digest.replace(':', '-')), 'no name')
    await unpublish(volume)
    for (const title of ['../up', '/etc/passwd', 'a/.wh.b'])
      await failsWith(
        publish(request('none', push('bad', [titled(title, 'x')]))),
        status.INVALID_ARGUMENT,
        /relative path/,
      )
    assert.deepEqual([existsSync(targetOf('none')), containers()], [false, []])
  })

  test('a failed volume whose target cannot be removed is ABORTED, after which the kubelet calls again', async () => {
    const volume = request('left', { image: `${registry.host}/absent:1` })
    const foreign = join(volume.targetPath, 'foreign')
    registry.intercept = () => {
      if (existsSync(volume.targetPath)) writeFileSync(foreign, '')
      return false
    }
    try {
      await failsWith(publish(volume), status.ABORTED, /absent.*not removed yet: .*it is not empty/)
    } finally {
      registry.intercept = () => false
    }
    await rm(foreign)
    await failsWith(publish(volume), status.NOT_FOUND)
    assert.deepEqual([existsSync(volume.targetPath), containers()], [false, []])
  })

  test('an artifact without files is INVALID_ARGUMENT, an image that does not exist NOT_FOUND, and nothing is left', async () => {
    const config = {
      mediaType: 'application/vnd.cncf.helm.config.v1+json',
      digest: tiny.config.digest,
      size: 2,
    }
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [] }))
    registry.addManifest('chart', '1', { digest: digestOf(bytes), bytes }, mediaType)
    const chart = request('none', { image: `${registry.host}/chart:1` })
    await failsWith(publish(chart), status.INVALID_ARGUMENT, /helm.config.v1/)
    await failsWith(publish(request('none', { image: `${world.registryHost}/none:1` })), status.NOT_FOUND)
    assert.deepEqual([existsSync(targetOf('none')), containers()], [false, []])
  })

  test('secrets of a volume are the credentials of its registry, come before those of the node, and are nowhere written', async () => {
    const password = 'geheim-7391'
    registry.addImage('private', '1', tiny)
    registry.addImage('private', '2', tiny)
    requirePassword('private', 'anna', password)
    const auths = { [registry.host]: { auth: Buffer.from(`anna:${password}`).toString('base64') } }
    const volume = (secrets: Record<string, string>, tag = '1') =>
      request('private', { image: `${registry.host}/private:${tag}`, pullPolicy: 'Always' }, { secrets })
    try {
      await failsWith(publish(volume({})), status.UNAUTHENTICATED)
      await failsWith(publish(volume({ username: 'anna', password: 'wrong' })), status.UNAUTHENTICATED)
      await failsWith(publish(volume({ token: password })), status.UNAUTHENTICATED, /no credentials/)
      assert.equal(existsSync(targetOf('private')), false)
      await failsWith(
        publish(volume({ '.dockerconfigjson': `{"auths": ${password}` })),
        status.UNAUTHENTICATED,
        /^(?!.*geheim)/,
      )
      // A helper would run as root on this machine.
      const helper = JSON.stringify({ credHelpers: { [registry.host]: 'loam-test' } })
      await failsWith(publish(volume({ '.dockerconfigjson': helper })), status.UNAUTHENTICATED)
      for (const secrets of [
        { username: 'anna', password },
        { '.dockerconfigjson': JSON.stringify({ auths }) },
        { '.dockercfg': JSON.stringify(auths) },
      ]) {
        await publish(volume(secrets))
        assert.equal(read(volume(secrets), 'file'), 'one\n')
        await unpublish(volume(secrets))
      }
      const place = filesWith(password, world.folder)
      assert.equal(place, '')
    } finally {
      registry.intercept = () => false
    }
  })

  test('a credential provider that takes the token of a service account gets that of the pod, and it is nowhere written', async () => {
    const token = 'pod-token-2846'
    registry.addImage('by-token', '1', tiny)
    requirePassword('by-token', 'robot', token)
    const config = world.path('providers.yaml')
    const program = world.path('exchange')
    writeFileSync(
      config,
      `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: exchange
  matchImages: ["${registry.host}"]
  defaultCacheDuration: 0s
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  tokenAttributes: { serviceAccountTokenAudience: registry, cacheType: Token, requireServiceAccount: true }
`,
    )
    // It takes the token that it reads for the password.
    const answer = `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","auth":{"${registry.host}":{"username":"robot","password":"\\1"}}}`
    writeFileSync(program, `#!/bin/sh\nsed 's|.*"serviceAccountToken":"\\([^"]*\\)".*|${answer}|'\n`, {
      mode: 0o755,
    })
    const tokens = (audience: string) => JSON.stringify({ [audience]: { token } })
    const volume = (context: Record<string, string>, secrets: Record<string, string> = {}) =>
      request(
        'by-token',
        { image: `${registry.host}/by-token:1`, pullPolicy: 'Always', ...context },
        { secrets },
      )
    const key = 'csi.storage.k8s.io/serviceAccount.tokens'
    await stop('SIGTERM')
    await start({
      LOAM_IMAGE_CREDENTIAL_PROVIDER_CONFIG: config,
      LOAM_IMAGE_CREDENTIAL_PROVIDER_BIN_DIR: dirname(program),
    })
    try {
      await failsWith(publish(volume({})), status.UNAUTHENTICATED, /exchange .*it needs the token of a pod/)
      await failsWith(
        publish(volume({ [key]: tokens('other') })),
        status.UNAUTHENTICATED,
        /a token for registry, .*tokenRequests/,
      )
      for (const given of [
        volume({ [key]: tokens('registry') }),
        volume({}, { [key]: tokens('registry') }),
      ]) {
        await publish(given)
        assert.equal(read(given, 'file'), 'one\n')
        await unpublish(given)
      }
      assert.equal(filesWith(token, world.folder), '')
    } finally {
      registry.intercept = () => false
      await stop('SIGTERM')
      await start()
    }
  })

  test('a pull goes on when its call has ended, the next call joins it, another volume is ABORTED, and each layer is fetched once', async () => {
    const slow = buildImage({ tars: [buildTar([{ name: 'slow', data: 'slow\n' }])] })
    registry.addImage('slow', '1', slow)
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
    const answerLater = async (...call: Parameters<RegistryServer['answer']>) => {
      await mayGoOn
      registry.answer(...call)
    }
    registry.intercept = (asked, response) => {
      if (asked.url?.includes(`/blobs/${slow.layers[0]?.digest}`) !== true) return false
      void answerLater(asked, response)
      return true
    }
    const volume = request('slow', { image: `${registry.host}/slow:1` })
    await failsWith(publish(volume, 1_000), status.DEADLINE_EXCEEDED)
    await failsWith(publish({ ...volume, volumeId: 'other' }), status.ABORTED)
    const joined = [publish(volume), publish(volume)]
    await failsWith(publish(volume, 300), status.DEADLINE_EXCEEDED)
    goOn()
    await Promise.all(joined)
    registry.intercept = () => false
    assert.equal(read(volume, 'slow'), 'slow\n')
    assert.equal(registry.countBlob(slow.layers[0]?.digest ?? ''), 1)
    await unpublish(volume)
  })

  test('unpublishing a volume whose image is still being pulled ends the pull', async () => {
    const stuck = buildImage({ tars: [buildTar([{ name: 'stuck', data: 'stuck\n' }])] })
    registry.addImage('stuck', '1', stuck)
    const { promise: isClosed, resolve: closed } = Promise.withResolvers<void>()
    registry.intercept = (asked, response) => {
      if (asked.url?.includes(`/blobs/${stuck.layers[0]?.digest}`) !== true) return false
      response.once('close', closed)
      return true
    }
    const volume = request('stuck', { image: `${registry.host}/stuck:1` })
    await failsWith(publish(volume, 500), status.DEADLINE_EXCEEDED)
    const waiting = publish(volume)
    waiting.catch(() => undefined)
    await failsWith(unpublish({ ...volume, volumeId: 'other' }), status.ABORTED)
    await unpublish(volume)
    await isClosed
    await failsWith(waiting, status.CANCELLED)
    registry.intercept = () => false
    assert.deepEqual([existsSync(targetOf('stuck')), containers()], [false, []])
  })

  test('stats of a writable volume are those of what was written to it, and those of an image of all of it', async () => {
    const [writable, whole] = [request('stats'), request('stats-ro', { readOnly: 'true' })]
    await publish(writable)
    await publish(whole)
    const usage = async ({ volumeId, targetPath }: PublishRequest) =>
      Object.fromEntries((await stats(volumeId, targetPath)).usage.map((each) => [Unit[each.unit], each]))
    const { BYTES: before = NONE } = await usage(writable)
    writeFileSync(join(targetOf('stats'), 'much'), Buffer.alloc(3 << 20, 1))
    const { BYTES: bytes = NONE, INODES: inodes = NONE } = await usage(writable)
    const grown = Number(bytes.used - before.used)
    assert.ok(grown >= 3 << 20 && grown < 4 << 20, `${grown}`)
    assert.ok(bytes.available > 0n && bytes.total > bytes.used && inodes.used > 0n)
    const { BYTES: full = NONE, INODES: files = NONE } = await usage(whole)
    assert.deepEqual([full.used > 0n, full.available, full.total], [true, 0n, full.used])
    assert.ok(files.used > 5n, `${files.used}`)
    await failsWith(stats('', targetOf('stats')), status.INVALID_ARGUMENT)
    await failsWith(stats('csi-stats', ''), status.INVALID_ARGUMENT)
    await failsWith(stats('csi-stats', world.path('nowhere')), status.NOT_FOUND)
    await failsWith(stats('other', targetOf('stats')), status.NOT_FOUND)
    await failsWith(stats('csi-stats', targetOf('stats-ro')), status.NOT_FOUND)
    await unpublish(writable)
    await unpublish(whole)
    await failsWith(stats('csi-stats', targetOf('stats')), status.NOT_FOUND)
  })

  test('a size larger than the file system of the store is INVALID_ARGUMENT, and leaves nothing', async () => {
    await failsWith(publish(request('huge', { size: '4096Ti' })), status.INVALID_ARGUMENT, /file system/)
    assert.deepEqual([existsSync(targetOf('huge')), containers()], [false, []])
  })

  test('a size on a node without mke2fs is INVALID_ARGUMENT', async () => {
    await using bare = new DaemonWorld()
    const ownSocket = bare.path('csi.sock')
    await bare.startDaemonWith({ PATH: bare.path('nothing') }, '--csi-socket', ownSocket)
    await until(async () => canConnect(ownSocket), 'the driver listens', 50)
    using own = new CsiClient(ownSocket)
    const volume = request('bare', { size: '4Mi' })
    await failsWith(own.call(Node.method.nodePublishVolume, volume), status.INVALID_ARGUMENT, /mke2fs/)
  })

  test('a writable volume that cannot be mounted again is ABORTED until it can, and is then unpublished', async () => {
    const volume = request('held')
    await publish(volume)
    writeFileSync(join(volume.targetPath, 'kept'), 'x')
    const found = must('find', join(world.root, 'containers'), '-path', '*/upper/kept').trim()
    const upper = dirname(found)
    renameSync(upper, `${upper}.away`)
    writeFileSync(upper, '')
    const [id = ''] = containers()
    for (const path of world.mounts().filter((each) => each === volume.targetPath || each.includes(id)))
      must('umount', path)
    await failsWith(publish(volume), status.ABORTED, /cannot be mounted again/)
    await rm(upper)
    renameSync(`${upper}.away`, upper)
    await publish(volume)
    assert.equal(read(volume, 'kept'), 'x')
    await unpublish(volume)
    assert.deepEqual([existsSync(volume.targetPath), containers()], [false, []])
  })

  test('size limits what a pod may write to its volume, and its stats say so', async () => {
    const volume = request('size', { size: '4Mi' })
    await publish(volume)
    assert.throws(
      () => {
        writeFileSync(join(volume.targetPath, 'much'), Buffer.alloc(8 << 20, 1))
      },
      (error) =>
        error instanceof Error && 'code' in error && ['ENOSPC', 'EDQUOT'].includes(String(error.code)),
    )
    const [bytes = NONE] = (await stats(volume.volumeId, volume.targetPath)).usage
    assert.deepEqual([bytes.total, bytes.available < 2n << 20n], [4n << 20n, true])
    await failsWith(publish(request('size', { size: '8Mi' })), status.ALREADY_EXISTS)
    await unpublish(volume)
    assert.deepEqual([existsSync(volume.targetPath), containers()], [false, []])
  })

  test('unpublishing lacks nothing but a volume ID and a path, and is not an error for what is not there', async () => {
    await failsWith(unpublish({ volumeId: '', targetPath: targetOf('x') }), status.INVALID_ARGUMENT)
    await failsWith(unpublish({ volumeId: 'v', targetPath: '' }), status.INVALID_ARGUMENT)
    await unpublish({ volumeId: 'v', targetPath: world.path('never', 'there') })
    await unpublish({ volumeId: 'v', targetPath: targetOf('x') })
    // What a crash has left: an empty directory, and a mount.
    mkdirSync(targetOf('x'))
    must('mount', '-t', 'tmpfs', 'none', targetOf('x'))
    await unpublish({ volumeId: 'v', targetPath: targetOf('x') })
    assert.equal(existsSync(targetOf('x')), false)
  })

  test('what a container mounts over a volume, also FUSE that refuses or never answers, leaves it published, and is removed with it', async () => {
    const fuse = (options: string, then: string) =>
      `exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,${options} none "$1"; ${then}`
    const refuses = fuse('user_id=1000,group_id=1000', 'true')
    // Its server is a process that only holds it.
    const hangs = fuse('user_id=0,group_id=0', 'sleep 600 >/dev/null 2>&1 & echo $!')
    const own = existsSync('/dev/fuse') ? [refuses, hangs] : []
    for (const [index, script] of ['mount -t tmpfs none "$1"', ...own].entries()) {
      const volume = request(`covered-${index}`)
      const { volumeId, targetPath } = volume
      await publish(volume)
      must('mount', '--make-shared', targetPath)
      const server = Number(must('sh', '-c', script, 'sh', targetPath))
      try {
        const mounts = world.mounts()
        await publish(volume)
        assert.deepEqual(world.mounts(), mounts)
        assert.equal((await stats(volumeId, targetPath)).usage.length, 2)
        await failsWith(publish(request(`covered-${index}`, { subPath: 'etc' })), status.ALREADY_EXISTS)
        await unpublish(volume)
      } finally {
        if (server !== 0) process.kill(server)
      }
      assert.deepEqual([existsSync(targetPath), containers()], [false, []], script)
      assert.ok(!world.mounts().includes(targetPath))
    }
  })

  test('a volume that was destroyed in part is unpublished, or published again', async () => {
    const volume = request('in-part')
    for (const act of [publish, unpublish]) {
      await publish(volume)
      writeFileSync(join(volume.targetPath, 'kept'), '')
      must('mount', '-t', 'tmpfs', 'none', volume.targetPath)
      const { message } = world.failure('destroy', containers()[0] ?? '')
      assert.match(message, /mounted over it/)
      await act(volume)
      assert.equal(existsSync(join(volume.targetPath, 'kept')), false)
      assert.equal(containers().length, act === publish ? 1 : 0)
      await unpublish(volume)
    }
    assert.equal(existsSync(volume.targetPath), false)
  })

  test('stats of a read-only volume whose files are copies are those of its files, and not of the disk', async () => {
    await stop('SIGTERM')
    await start({ LOAM_IMAGE_PROVISIONER_BACKEND: 'copy' })
    const whole = request('stats-copy', { readOnly: 'true' })
    await publish(whole)
    const { usage } = await stats(whole.volumeId, whole.targetPath)
    const bytes = usage.find(({ unit }) => unit === Unit.BYTES) ?? NONE
    assert.ok(bytes.used > 500_000n && bytes.used < 20_000_000n, `${bytes.used}`)
    assert.deepEqual([bytes.total, bytes.available], [bytes.used, 0n])
    await unpublish(whole)
    await stop('SIGTERM')
    await start()
  })

  test('a target that the system refuses is an error that says why, whichever call meets it', async () => {
    const volume = request('refused')
    const parent = dirname(volume.targetPath)
    mkdirSync(volume.targetPath)
    writeFileSync(join(volume.targetPath, 'foreign'), '')
    await failsWith(
      unpublish(volume),
      status.FAILED_PRECONDITION,
      /^9 FAILED_PRECONDITION: use .*refused.*: it is not empty\. .*Move them away/,
    )
    await rm(volume.targetPath, { recursive: true })
    writeFileSync(volume.targetPath, '')
    for (const act of [publish, unpublish])
      await failsWith(act(volume), status.FAILED_PRECONDITION, /is not a directory/)
    await rm(volume.targetPath)
    must('mount', '-t', 'tmpfs', '-o', 'ro', 'none', parent)
    await failsWith(publish(volume), status.FAILED_PRECONDITION, /use .*: its file system is read-only$/)
    must('umount', parent)
    must('mount', '-t', 'tmpfs', '-o', 'size=1', 'none', parent)
    must('mount', '-o', 'remount,nr_inodes=1', parent)
    await failsWith(publish(volume), status.RESOURCE_EXHAUSTED, /NodePublishVolume: no space left/)
    must('umount', parent)
    assert.deepEqual([existsSync(volume.targetPath), containers()], [false, []])
  })

  test('a target is never reached through a symlink that a pod has put there, and one above the directory of pods is followed', async () => {
    const outside = world.path('outside')
    mkdirSync(outside)
    const data = join(kubelet, 'pods', 'evil', 'volumes', 'kubernetes.io~csi', 'data')
    mkdirSync(dirname(data), { recursive: true })
    symlinkSync(outside, data)
    const evil = request('evil', {}, { targetPath: join(data, 'mount') })
    await failsWith(
      publish({ ...evil, targetPath: join(data, 'mount') }),
      status.FAILED_PRECONDITION,
      /leads elsewhere/,
    )
    await failsWith(unpublish(evil), status.FAILED_PRECONDITION, /leads elsewhere/)
    symlinkSync(outside, join(kubelet, 'pods', 'evil', 'mount'))
    await failsWith(
      publish({ ...evil, targetPath: join(kubelet, 'pods', 'evil', 'mount') }),
      status.FAILED_PRECONDITION,
    )
    assert.deepEqual([readdirSync(outside), containers()], [[], []])
    const link = world.path('linked')
    symlinkSync(kubelet, link)
    const linked = request('linked', {}, { targetPath: targetOf('linked').replace(kubelet, link) })
    await publish(linked)
    assert.equal(read(request('linked'), 'etc/hello'), 'app:1\n')
    await publish(request('linked'))
    await unpublish(linked)
    await failsWith(publish(request('p', {}, { targetPath: world.path('no', 'parent') })), status.NOT_FOUND)
  })

  test('volumes outlive the daemon, also a killed one, and are known to the next', async () => {
    const [writable, part] = [
      request('outlive'),
      request('outlive-part', { subPath: 'etc', readOnly: 'true' }),
    ]
    await publish(writable)
    await publish(part)
    writeFileSync(join(targetOf('outlive'), 'kept'), 'x')
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await stop(signal)
      assert.deepEqual([read(writable, 'kept'), read(part, 'hello')], ['x', 'app:1\n'])
      await start()
      const mounts = world.mounts().filter((path) => path.startsWith(kubelet))
      await publish(writable)
      await publish(part)
      await failsWith(
        publish({ ...part, readonly: false, volumeContext: { ...EPHEMERAL, image } }),
        status.ALREADY_EXISTS,
      )
      assert.deepEqual(
        world.mounts().filter((path) => path.startsWith(kubelet)),
        mounts,
      )
      assert.equal((await stats(writable.volumeId, writable.targetPath)).usage.length, 2)
    }
    // As after a reboot: the mounts are gone, and the kubelet publishes again.
    await stop('SIGKILL')
    for (const path of world.mounts().toReversed()) must('umount', '-l', path)
    await rm(targetOf('outlive-part'), { recursive: true })
    await start()
    await publish(writable)
    await publish(part)
    assert.deepEqual([read(writable, 'kept'), read(part, 'hello')], ['x', 'app:1\n'])
    await unpublish(writable)
    await unpublish(part)
    assert.deepEqual([containers(), existsSync(targetOf('outlive'))], [[], false])
  })

  test('a daemon whose mount namespace ends with it, as that of a pod, is followed by one that knows its volumes and mounts none twice', async () => {
    await using pod = new DaemonWorld()
    must('mount', '--bind', pod.folder, pod.folder)
    must('mount', '--make-shared', pod.folder)
    const ownSocket = pod.path('csi.sock')
    const startPod = async () => {
      const words = [process.execPath, LOAMD, ...pod.places, '--csi-socket', ownSocket]
      pod.startProgram('loamd', 'unshare', { args: ['--mount', '--propagation', 'unchanged', ...words] })
      await until(async () => canConnect(ownSocket), 'the driver listens', 50)
      return new CsiClient(ownSocket)
    }
    const volumes = [{}, { readOnly: 'true' }, { subPath: 'etc' }].map((attributes, index) => {
      const targetPath = pod.path('pods', `${index}`, 'mount')
      mkdirSync(dirname(targetPath), { recursive: true })
      return request(`pod-${index}`, attributes, { targetPath })
    })
    const targets = () =>
      pod
        .mounts()
        .filter((path) => path.endsWith('/mount'))
        .toSorted()
    const all = volumes.map(({ targetPath }) => targetPath)
    for (const _ of [1, 2]) {
      using own = await startPod()
      for (const volume of volumes) await own.call(Node.method.nodePublishVolume, volume)
      assert.deepEqual(targets(), all)
      await pod.stop('loamd', 'SIGKILL')
    }
    using last = await startPod()
    for (const { volumeId, targetPath } of volumes)
      await last.call(Node.method.nodeUnpublishVolume, { volumeId, targetPath })
    assert.deepEqual(targets(), [])
  })

  test('the controller for tests of drivers creates volumes that are only names, which the node publishes', async () => {
    const { method } = Controller
    const { capabilities } = await csi.call(Identity.method.getPluginCapabilities, {})
    assert.deepEqual(
      capabilities.map(({ type }) => type.case === 'service' && type.value.type),
      [1],
    )
    const rights = await csi.call(method.controllerGetCapabilities, {})
    assert.deepEqual(
      rights.capabilities.map(({ type }) => type.case === 'rpc' && type.value.type),
      [1],
    )
    const parameters = { image, readOnly: 'true' }
    const wanted = { name: 'vol', parameters, volumeCapabilities: [WRITER] }
    const { volume } = await csi.call(method.createVolume, wanted)
    assert.deepEqual([volume?.volumeId, volume?.volumeContext], ['vol', parameters])
    assert.equal((await csi.call(method.createVolume, wanted)).volume?.volumeId, 'vol')
    await failsWith(
      csi.call(method.createVolume, { ...wanted, parameters: { image } }),
      status.ALREADY_EXISTS,
    )
    await failsWith(csi.call(method.createVolume, { ...wanted, name: '' }), status.INVALID_ARGUMENT)
    await failsWith(
      csi.call(method.createVolume, { ...wanted, volumeCapabilities: [] }),
      status.INVALID_ARGUMENT,
    )
    await failsWith(
      csi.call(method.createVolume, { ...wanted, name: 'w', parameters: {} }),
      status.INVALID_ARGUMENT,
    )
    const published = request('created', {}, { volumeId: 'vol', volumeContext: parameters })
    await publish(published)
    await unpublish(published)
    const check = { volumeId: 'vol', volumeContext: parameters, volumeCapabilities: [WRITER] }
    const { confirmed } = await csi.call(method.validateVolumeCapabilities, check)
    assert.deepEqual([confirmed?.volumeCapabilities.length, confirmed?.volumeContext], [1, parameters])
    const refused = await csi.call(method.validateVolumeCapabilities, {
      ...check,
      volumeCapabilities: [BLOCK],
    })
    assert.deepEqual([refused.confirmed, refused.message !== ''], [undefined, true])
    await failsWith(
      csi.call(method.validateVolumeCapabilities, { ...check, volumeId: '' }),
      status.INVALID_ARGUMENT,
    )
    await failsWith(
      csi.call(method.validateVolumeCapabilities, { ...check, volumeCapabilities: [] }),
      status.INVALID_ARGUMENT,
    )
    await failsWith(
      csi.call(method.validateVolumeCapabilities, { ...check, volumeId: 'unknown' }),
      status.NOT_FOUND,
    )
    for (const volumeId of ['vol', 'vol', 'unknown']) await csi.call(method.deleteVolume, { volumeId })
    await failsWith(csi.call(method.deleteVolume, { volumeId: '' }), status.INVALID_ARGUMENT)
  })

  test('without csi_controller the driver has no controller service, and its socket is for its owner alone', async () => {
    await stop('SIGTERM')
    assert.equal(existsSync(socket), false)
    await world.startDaemon('--csi-socket', socket)
    await until(async () => canConnect(socket), 'the driver listens', 50)
    assert.equal(statSync(socket).mode & 0o777, 0o600)
    using other = new CsiClient(socket)
    assert.deepEqual((await other.call(Identity.method.getPluginCapabilities, {})).capabilities, [])
    await failsWith(other.call(Controller.method.controllerGetCapabilities, {}), status.UNIMPLEMENTED)
  })
})

/** Returns the names of files that contain a text. */
function filesWith(text: string, folder: string): string {
  return must('sh', '-c', 'grep -rlaF --devices=skip -- "$1" "$2" || true', 'sh', text, folder).trim()
}
