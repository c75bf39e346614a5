// The signature policy, with Debian's registry.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  bundleReferrer,
  buildDockerArchive,
  buildImage,
  buildTar,
  type KeyPair,
  createKeyPair,
  RegistryServer,
  signBundle,
  signSimple,
  simpleManifest,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { putBlob, putManifest, putSignatures } from '../support/sign-image.ts'
import { DebianRegistry, failureOf, must, provision, World } from '../support/world.ts'

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json'

const tars = [buildTar([{ name: 'hello', data: 'hello' }])]
const image = buildImage({ tars })
const { digest } = image.manifest

/** Pushes the image by skopeo, and signatures of it as cosign does. */
async function push(
  world: World,
  host: string,
  repository: string,
  signatures: readonly ReturnType<typeof signSimple>[],
): Promise<void> {
  const layout = join(world.folder, 'layout')
  if (!existsSync(layout)) writeOciLayout(layout, { sample: image })
  must(
    'skopeo',
    'copy',
    '-q',
    '--dest-tls-verify=false',
    `oci:${layout}:sample`,
    `docker://${host}/${repository}:1`,
  )
  if (signatures.length > 0) await putSignatures(host, repository, digest, signatures)
}

function writePolicy(world: World, toml: string, keys: Readonly<Record<string, KeyPair>> = {}): string {
  for (const [name, { publicPem }] of Object.entries(keys)) writeFileSync(join(world.folder, name), publicPem)
  const path = join(world.folder, 'policy.toml')
  writeFileSync(path, toml)
  return `--signature-policy=${path}`
}

/** Returns openssl's verdict on the payloads in the registry, with the same key. */
function opensslAccepts(world: World, signatures: readonly ReturnType<typeof signSimple>[]): boolean {
  return signatures.some(({ payload, signature }) => {
    writeFileSync(join(world.folder, 'payload'), payload)
    writeFileSync(join(world.folder, 'signature'), Buffer.from(signature, 'base64'))
    const args = ['dgst', '-sha256', '-verify', 'team.pub', '-signature', 'signature', 'payload']
    return spawnSync('openssl', args, { cwd: world.folder }).status === 0
  })
}

describe('signature policy', () => {
  test('a policy accepts signatures by keys from a real registry, agrees with openssl, and inspect shows them', async () => {
    using world = new World()
    using registry = await DebianRegistry.start()
    const { host } = registry
    const [key, foreign] = [createKeyPair(), createKeyPair()]
    const flag = writePolicy(
      world,
      `default = "reject"\n[scope."${host}"]\npolicy = "cosign"\nkeys = ["team.pub"]\n`,
      { 'team.pub': key },
    )
    const other = `sha256:${'0'.repeat(64)}`
    const cases: Record<
      string,
      { signatures: ReturnType<typeof signSimple>[]; isByKey: boolean; isGood: boolean }
    > = {
      good: { signatures: [signSimple(`${host}/good`, digest, key)], isByKey: true, isGood: true },
      second: {
        signatures: [
          signSimple(`${host}/second`, digest, foreign),
          signSimple(`${host}/second`, digest, key),
        ],
        isByKey: true,
        isGood: true,
      },
      unsigned: { signatures: [], isByKey: false, isGood: false },
      foreign: {
        signatures: [signSimple(`${host}/foreign`, digest, foreign)],
        isByKey: false,
        isGood: false,
      },
      moved: { signatures: [signSimple(`${host}/good`, digest, key)], isByKey: true, isGood: false },
      another: { signatures: [signSimple(`${host}/another`, other, key)], isByKey: true, isGood: false },
    }
    for (const [name, { signatures, isByKey, isGood }] of Object.entries(cases)) {
      await push(world, host, name, signatures)
      assert.equal(opensslAccepts(world, signatures), isByKey, `openssl: ${name}`)
      if (isGood) {
        const { rootfs } = provision(world, `${host}/${name}:1`, '--id', name, flag)
        assert.equal(readFileSync(join(rootfs, 'hello'), 'utf8'), 'hello')
        assert.equal(world.loam('destroy', name).status, 0)
      } else {
        const { code, message } = failureOf(world, 'provision', '--id', name, flag, `${host}/${name}:1`)
        assert.equal(code, 'POLICY_REFUSED', message)
        assert.equal(failureOf(world, 'pull', flag, `${host}/${name}:1`).code, 'POLICY_REFUSED')
      }
    }
    const { decisions } = JSON.parse(world.loam('--json', 'inspect', `${host}/good:1`).stdout)
    assert.deepEqual(
      decisions.map(({ repository, scope, policy, signer }: Record<string, string>) => [
        repository,
        scope,
        policy,
        signer,
      ]),
      [
        [`${host}/good`, host, 'cosign', 'key team.pub'],
        [`${host}/second`, host, 'cosign', 'key team.pub'],
      ],
    )
  })

  test('a policy holds for stored images, and requests nothing again while the rule is the same', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    const { host } = server
    const [key, next] = [createKeyPair(), createKeyPair()]
    server.addImage('app', '1', image)
    const { manifest, blobs } = simpleManifest([signSimple(`${host}/app`, digest, key)])
    for (const blob of blobs) server.setBlob(blob.digest, blob.bytes)
    server.addManifest('app', `${digest.replace(':', '-')}.sig`, manifest, MANIFEST_TYPE)
    const name = `${host}/app:1`
    // Pulled before there was a policy.
    assert.equal((await world.loamAsync('pull', name)).status, 0)
    const toml = `default = "reject"\n[scope."${host}"]\npolicy = "cosign"\nkeys = ["team.pub"]\n`
    const flag = writePolicy(world, toml, { 'team.pub': key })
    assert.equal((await world.loamAsync('provision', '--id', 'a', flag, name)).status, 0)
    const asked = server.requests.length
    assert.equal((await world.loamAsync('provision', '--id', 'b', flag, name)).status, 0)
    assert.equal(server.requests.length, asked)
    // Another key in the same file is another rule.
    writePolicy(world, toml, { 'team.pub': next })
    const refused = await world.loamAsync('--json', 'provision', '--id', 'c', flag, name)
    assert.equal(JSON.parse(refused.stderr).error.code, 'POLICY_REFUSED')
    // A registry that cannot be asked cannot prove a signature.
    server.intercept = (_request, response) => {
      response.writeHead(404).end()
      return true
    }
    writePolicy(world, 'default = "reject"\n')
    const rejected = await world.loamAsync('--json', 'provision', '--id', 'd', flag, name)
    const { error } = JSON.parse(rejected.stderr)
    assert.equal(error.code, 'POLICY_REFUSED')
    assert.match(error.hint, /default/)
    assert.deepEqual(
      JSON.parse(world.loam('--json', 'ps').stdout).map(({ id }: { id: string }) => id),
      ['a', 'b'],
    )
  })

  test('a policy accepts sigstore bundles from referrers and from the tag that replaces them', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    using registry = await DebianRegistry.start()
    const key = createKeyPair()
    const bundle = signBundle(digest, { key })
    const { manifest, blobs, index } = bundleReferrer(
      { ...image.manifest, mediaType: image.mediaType },
      bundle,
    )
    const toml = (host: string) =>
      `default = "reject"\n[scope."${host}"]\npolicy = "cosign"\nkeys = ["team.pub"]\n`
    // A registry with the referrers API.
    server.addImage('app', '1', image)
    server.addManifest('app', manifest.digest, manifest, MANIFEST_TYPE)
    for (const blob of blobs) server.setBlob(blob.digest, blob.bytes)
    server.intercept = (request, response) => {
      if (request.url?.startsWith(`/v2/app/referrers/${digest}`) !== true) return false
      response.writeHead(200, { 'content-type': INDEX_TYPE }).end(index.bytes)
      return true
    }
    const flag = writePolicy(world, toml(server.host), { 'team.pub': key })
    const first = await world.loamAsync('pull', flag, `${server.host}/app:1`)
    assert.equal(first.status, 0, first.stderr)
    // Debian's registry has none.
    await push(world, registry.host, 'app', [])
    for (const blob of blobs) await putBlob(registry.host, 'app', blob)
    await putManifest(`${registry.host}/app`, manifest.digest, manifest, MANIFEST_TYPE)
    writePolicy(world, toml(registry.host), { 'team.pub': key })
    assert.equal(failureOf(world, 'pull', flag, `${registry.host}/app:1`).code, 'POLICY_REFUSED')
    await putManifest(`${registry.host}/app`, digest.replace(':', '-'), index, INDEX_TYPE)
    const second = world.loam('pull', flag, `${registry.host}/app:1`)
    assert.equal(second.status, 0, second.stderr)
  })

  test('a policy is not bypassed by an archive that claims an allowed name', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    const { host } = server
    const archive = join(world.folder, 'evil.tar')
    writeFileSync(archive, buildDockerArchive(image, tars, [`${host}/team/app:1`]))
    const flag = writePolicy(
      world,
      `default = "reject"
[scope."docker-archive:"]
policy = "accept"
[scope."${host}"]
policy = "cosign"
keys = ["team.pub"]
`,
      { 'team.pub': createKeyPair() },
    )
    assert.equal(world.loam('pull', flag, `docker-archive:${archive}`).status, 0)
    const refused = await world.loamAsync('--json', 'provision', flag, `${host}/team/app:1`)
    assert.equal(JSON.parse(refused.stderr).error.code, 'POLICY_REFUSED')
    const put = world.loam('--json', 'put', flag, archive, `${host}/team/app:2`)
    assert.equal(JSON.parse(put.stderr).error.code, 'POLICY_REFUSED')
  })

  test('a policy that cannot be read allows nothing', () => {
    using world = new World()
    const flag = writePolicy(world, 'default = "accept"\nkeys = 3\n')
    const { code, message } = failureOf(world, 'pull', flag, 'x')
    assert.equal(code, 'CONFIG_INVALID')
    assert.match(message, /policy\.toml/)
    assert.notEqual(world.loam('pull', '--signature-policy=/nowhere', 'x').status, 0)
  })
})
