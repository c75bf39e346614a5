import { suits } from './bundle.ts'
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parse as parseToml } from 'smol-toml'
import { isLoamError } from '../errors/index.ts'
import { type Digest, parseReference } from '../image/index.ts'
import { Authority, type KeyPair, createKeyPair, signBundle, signSimple } from '../testing/index.ts'
import {
  findRule,
  evaluate,
  parsePolicy,
  parseLocation,
  formatLocation,
  type ImageLocation,
  registryLocation,
  type Signature,
  type SignaturePolicy,
} from './index.ts'

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest
const OTHER = `sha256:${'b'.repeat(64)}` as Digest
const REPOSITORY = 'registry.test/team/app'
const SUBJECT = 'https://forge.test/team/app/release.yml@refs/heads/main'
const ISSUER = 'https://token.forge.test'

function parse(toml: string, files: Readonly<Record<string, string>> = {}): SignaturePolicy {
  return parsePolicy(parseToml(toml), {
    what: 'test',
    readNamed: (path) => Buffer.from(files[path] ?? assert.fail(`${path} was read`)),
    defaultRegistry: 'docker.io',
  })
}

/** The location of a name, as a user writes it for a registry, or in the form of locations. */
function placeOf(name: string): ImageLocation {
  const own = parseLocation(name)
  return own.kind === 'file' || own.kind === 'appc' ? own : registryLocation(parseReference(name))
}

async function decide(policy: SignaturePolicy, signatures: readonly Signature[], name = `${REPOSITORY}:1`) {
  const location = placeOf(name)
  const pin = /@(.*)$/.exec(name)?.[1]
  return evaluate(findRule(policy, location), {
    name,
    location,
    pin,
    digests: [DIGEST],
    findSignatures: async function* findSignatures() {
      yield* signatures
    },
  })
}

async function isRefused(
  policy: SignaturePolicy,
  signatures: readonly Signature[],
  why: RegExp,
  name?: string,
): Promise<void> {
  await assert.rejects(decide(policy, signatures, name), (error) => {
    assert.ok(isLoamError(error, 'POLICY_REFUSED'), String(error))
    assert.match(error.message, why)
    return true
  })
}

const simple = (digest: string, key: KeyPair, repository = REPOSITORY): Signature => ({
  kind: 'simple',
  ...signSimple(repository, digest, key),
})
const bundle = (...args: Parameters<typeof signBundle>): Signature => ({
  kind: 'bundle',
  bytes: signBundle(...args),
})

describe('signature policy', () => {
  test('the longest scope of a policy that fits decides, for registries, repositories, patterns and transports', () => {
    const policy = parse(`default = "reject"
[scope."registry.test"]
policy = "accept"
[scope."registry.test/team"]
policy = "digest-only"
[scope."*.test"]
policy = "reject"
[scope."oci:"]
policy = "accept"
[scope."oci:/srv"]
policy = "reject"
[scope."example.com/app"]
policy = "accept"
[scope."appc://example.com/tool"]
policy = "accept"
`)
    const scopes = {
      'registry.test/x:1': 'registry.test',
      'registry.test/team/app:1': 'registry.test/team',
      'registry.test/teams:1': 'registry.test',
      'registry.test:5000/team/app:1': 'registry.test/team',
      'registry.test:5000/x:1': 'registry.test',
      'other.test/x:1': '*.test',
      'nottest/x:1': 'default',
      'a.other.test:8443/x:1': '*.test',
      'oci:/home/x': 'oci:',
      'oci:/srv/x': 'oci:/srv',
      'oci:/srvx': 'oci:',
      'docker-archive:/x.tar': 'default',
      'appc://example.com/app': 'default',
      'appc://example.com/tool/x': 'appc://example.com/tool',
      'appc://example.com/toolbox': 'default',
      'example.com/app/x:1': 'example.com/app',
      'docker.io/library/busybox:latest': 'default',
    }
    for (const [name, scope] of Object.entries(scopes))
      assert.equal(findRule(policy, placeOf(name)).name, scope, name)
    assert.equal(formatLocation(placeOf(`a.test:80/b/c:1.0@${DIGEST}`)), 'a.test:80/b/c')
  })

  test('the rules reject, accept and digest-only need no signature', async () => {
    const policy = parse(`default = "accept"
[scope."bad.test"]
policy = "reject"
[scope."exact.test"]
policy = "digest-only"
`)
    assert.equal((await decide(policy, [])).policy, 'accept')
    await isRefused(policy, [], /not allowed/, 'bad.test/x:1')
    await isRefused(policy, [], /by digest/, 'exact.test/x:1')
    assert.equal((await decide(policy, [], `exact.test/x@${DIGEST}`)).scope, 'exact.test')
    await isRefused(policy, [], /by digest/, `exact.test/x@${OTHER}`)
  })

  test('a signature by a key of the policy counts for its own image and repository only', async () => {
    for (const type of ['ec', 'ed25519', 'rsa'] as const) {
      const [key, old, foreign] = [createKeyPair(type), createKeyPair('ec'), createKeyPair(type)]
      const files = { 'a.pub': key.publicPem, 'old.pub': old.publicPem }
      const policy = parse(
        `default = "reject"\n[scope."registry.test"]\npolicy = "cosign"\nkeys = ["a.pub", "old.pub"]`,
        files,
      )
      const good = simple(DIGEST, key)
      assert.equal((await decide(policy, [simple(DIGEST, foreign), good])).signer, 'key a.pub')
      assert.equal((await decide(policy, [simple(DIGEST, old)])).signer, 'key old.pub')
      await isRefused(policy, [], /it is not signed/)
      await isRefused(policy, [simple(DIGEST, foreign)], /a different key/)
      await isRefused(policy, [simple(OTHER, key)], /a different image/)
      await isRefused(policy, [simple(DIGEST, key, 'registry.test/team/other')], /it is for registry/)
      assert.ok(good.kind === 'simple')
      const changed = Buffer.from(good.payload.toString().replace('null', '"x"'))
      await isRefused(policy, [{ ...good, payload: changed }], /a different key/)
      const nonsense = { ...good, signature: '%%%' }
      await isRefused(policy, [nonsense], /a different key/)
    }
  })

  test('an image that is signed under another name counts if signed_as lists that name', async () => {
    const key = createKeyPair()
    const policy = parse(
      `default = "reject"
[scope."mirror.test"]
policy = "cosign"
keys = ["k"]
signed_as = ["registry.test/team", "docker.io/library/busybox"]`,
      { k: key.publicPem },
    )
    const name = 'mirror.test/app:1'
    assert.equal((await decide(policy, [simple(DIGEST, key)], name)).signer, 'key k')
    const hub = simple(DIGEST, key, 'index.docker.io/library/busybox')
    assert.equal((await decide(policy, [hub], name)).signer, 'key k')
    await isRefused(policy, [simple(DIGEST, key, 'mirror.test/app')], /it is for mirror/, name)
  })

  test('a signature counts for the repository that it names, however that is spelt', async () => {
    const key = createKeyPair()
    const policy = parse(`default = "reject"\n[scope."registry.test"]\npolicy = "cosign"\nkeys = ["k"]\n`, {
      k: key.publicPem,
    })
    for (const named of [
      REPOSITORY,
      'Registry.TEST/team/app',
      'registry.test:443/team/app',
      `${REPOSITORY}:1`,
    ])
      assert.equal((await decide(policy, [simple(DIGEST, key, named)])).signer, 'key k', named)
    const others = [
      `${REPOSITORY}/debug`,
      'registry.test/team',
      'registry.test',
      'registry.test/team/app2',
      'registry.test:5000/team/app',
      'registry.test/',
      `oci:/${REPOSITORY}`,
      `docker://${REPOSITORY}`,
      '',
    ]
    for (const named of others) await isRefused(policy, [simple(DIGEST, key, named)], /it is for/)
    for (const signed of ['registry.test/team/app:1', 'oci:/x', '*.test/x', 'Registry/App'])
      assert.throws(
        () =>
          parse(
            `default = "reject"\n[scope."x.test"]\npolicy = "cosign"\nkeys = ["k"]\nsigned_as = ["${signed}"]\n`,
            { k: key.publicPem },
          ),
        (error) => isLoamError(error, 'CONFIG_INVALID'),
        signed,
      )
  })

  test('a bundle counts by the right key, and not by another key, of another image, or of another kind of statement', async () => {
    const [key, foreign] = [createKeyPair(), createKeyPair()]
    const policy = parse(`default = "reject"\n[scope."registry.test"]\npolicy = "cosign"\nkeys = ["k"]`, {
      k: key.publicPem,
    })
    assert.equal((await decide(policy, [bundle(DIGEST, { key })])).signer, 'key k')
    await isRefused(policy, [bundle(DIGEST, { key: foreign })], /a different key/)
    await isRefused(policy, [bundle(OTHER, { key })], /a different image/)
    const sbom = bundle(DIGEST, { key }, 'https://spdx.dev/Document')
    await isRefused(policy, [sbom], /predicateType/)
    await isRefused(policy, [{ kind: 'bundle', bytes: Buffer.from('{"mediaType":"x"}') }], /is accepted/)
    await isRefused(policy, [{ kind: 'bundle', bytes: Buffer.from('rubbish') }], /JSON/)
  })

  test('a bundle by a certificate counts with the given trust root and identity, offline', async () => {
    using authority = new Authority()
    using stranger = new Authority()
    const files = { root: JSON.stringify(authority.trustRoot) }
    const policyOf = (subject: string, issuer = ISSUER) =>
      parse(
        `default = "reject"
[scope."registry.test"]
policy = "sigstore"
trust_root = "root"
identities = [{ issuer = "${issuer}", subject = "${subject}" }]`,
        files,
      )
    const signer = { authority, subject: SUBJECT, issuer: ISSUER }
    const good = bundle(DIGEST, signer)
    for (const subject of [SUBJECT, 'https://forge.test/team/*', '*']) {
      const { signer: found } = await decide(policyOf(subject), [good])
      assert.equal(found, `${SUBJECT} (${ISSUER})`)
    }
    await isRefused(policyOf('https://forge.test/tea'), [good], /it is by https:\/\/forge/)
    await isRefused(policyOf('https://forge.test/team/.*'), [good], /it is by/)
    await isRefused(policyOf('*', 'https://other.test'), [good], /whom https:\/\/token/)
    const policy = policyOf('*')
    await isRefused(policy, [bundle(DIGEST, { ...signer, authority: stranger })], /is accepted/)
    await isRefused(policy, [bundle(OTHER, signer)], /a different image/)
    await isRefused(policy, [bundle(DIGEST, { key: createKeyPair() })], /by a key/)
    await isRefused(policy, [simple(DIGEST, createKeyPair())], /no sigstore bundle/)
    // Without the log's entry the time of the signature is unknown.
    assert.ok(good.kind === 'bundle')
    const unlogged = JSON.parse(good.bytes.toString())
    unlogged.verificationMaterial.tlogEntries = []
    await isRefused(policy, [{ kind: 'bundle', bytes: Buffer.from(JSON.stringify(unlogged)) }], /is accepted/)
    const later = JSON.parse(good.bytes.toString())
    later.verificationMaterial.tlogEntries[0].integratedTime = '1900000000'
    await isRefused(policy, [{ kind: 'bundle', bytes: Buffer.from(JSON.stringify(later)) }], /is accepted/)
  })

  test('a rule with other keys is another rule, and a policy file with invalid fields is refused', () => {
    const [a, b] = [createKeyPair(), createKeyPair()]
    const toml = `default = "reject"\n[scope."x.test"]\npolicy = "cosign"\nkeys = ["k"]`
    const digestOf = (key: KeyPair) =>
      findRule(parse(toml, { k: key.publicPem }), placeOf('x.test/a:1')).digest
    assert.equal(digestOf(a), digestOf(a))
    assert.notEqual(digestOf(a), digestOf(b))
    const bad = [
      '',
      'default = "maybe"',
      'default = "cosign"',
      'default = "accept"\nother = 1',
      'default = "accept"\n[scope."x"]\npolicy = "trust"',
      'default = "accept"\n[scope."x"]\npolicy = "cosign"',
      'default = "accept"\n[scope."x"]\npolicy = "sigstore"\ntrust_root = "k"',
      'default = "accept"\n[scope."x"]\npolicy = "accept"\nkeys = ["k"]',
      'default = "accept"\n[scope."x"]\npolicy = "cosign"\nkeys = ["k"]',
      'default = "accept"\n[scope."x"]\npolicy = "reject"\nkey = ["k"]',
    ]
    for (const text of bad) {
      assert.throws(
        () => parse(text, { k: 'no key' }),
        (error) => isLoamError(error, 'CONFIG_INVALID'),
        text,
      )
    }
  })
})

test('a pattern of an identity matches exactly, and rejects a near miss quickly', () => {
  const fitting: readonly (readonly [pattern: string, text: string, fits: boolean])[] = [
    ['a', 'a', true],
    ['a', 'ab', false],
    ['*', '', true],
    ['a*', 'a\nb', true],
    ['*@x.test', 'me@x.test', true],
    ['*@x.test', 'me@x.test.evil', false],
    ['a*a', 'a', false],
    ['a*b*c', 'a.b.b.c', true],
    ['a*b*c', 'a.c.b', false],
    ['https://(x)*', 'https://(x)y', true],
    ['a.c', 'abc', false],
    [`${'*a'.repeat(50)}*b`, 'a'.repeat(1 << 20), false],
  ]
  for (const [pattern, text, fits] of fitting) assert.equal(suits(pattern, text), fits, pattern.slice(0, 20))
})
