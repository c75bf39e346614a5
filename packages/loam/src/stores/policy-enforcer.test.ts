import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { type Digest, digestOf, parseReference, storedReference } from '../image/index.ts'
import { type ImageRecord, MetadataStore } from '../metadata/index.ts'
import {
  fileLocation,
  parsePolicy,
  type ImageLocation,
  registryLocation,
  UNKNOWN_LOCATION,
} from '../policy/index.ts'
import { createKeyPair, signSimple } from '../testing/index.ts'
import { PolicyEnforcer } from './policy-enforcer.ts'

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest
const OTHER = `sha256:${'b'.repeat(64)}`

const IMAGE: ImageRecord = {
  type: 'docker',
  digest: DIGEST,
  mediaType: 'x',
  configDigest: DIGEST,
  chainId: undefined,
  platform: 'linux/amd64',
  sizeBytes: 1,
  created: undefined,
  pulledAtMs: 1,
  usedAtMs: 1,
  isLocal: false,
  layers: [],
}

let folder: string
let metadata: MetadataStore
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'loam-enforcer-'))
  metadata = await MetadataStore.open(join(folder, 'metadata.db'), { lockFile: join(folder, 'lock') })
})
after(() => {
  metadata[Symbol.dispose]()
  rmSync(folder, { recursive: true })
})

async function isAdmitted(
  enforcer: PolicyEnforcer,
  locations: readonly ImageLocation[],
  from: readonly ImageLocation[],
  pin: string | undefined,
): Promise<boolean> {
  const source = { name: storedReference('x'), asked: { locations, pin } }
  try {
    enforcer.checkAsked(source.name, source.asked)
    await enforcer.admit({ source, from, digest: DIGEST, ids: [DIGEST] }, undefined)
    return true
  } catch (error) {
    assert.ok(isLoamError(error, 'POLICY_REFUSED'), String(error))
    return false
  }
}

test('an image is evaluated again when signatures are evaluated by other rules', async () => {
  const key = createKeyPair()
  const text = { policy: 'cosign', keys: ['k'], signed_as: [], identities: [] }
  const pem = Buffer.from(key.publicPem)
  const file = { what: 'test', readNamed: () => pem, defaultRegistry: 'docker.io' }
  const value = { default: 'reject', scope: { 'a.test': { policy: 'cosign', keys: ['k'] } } }
  const enforcer = new PolicyEnforcer(parsePolicy(value, file), metadata)
  // A decision of versions in which a signature of a.test/x also counted for a.test/x/y.
  const ruleDigest = digestOf(Buffer.from(JSON.stringify(['a.test', text, digestOf(pem)])))
  const decision = {
    repository: 'a.test/x/y',
    scope: 'a.test',
    policy: 'cosign',
    ruleDigest,
    signer: 'key k',
  }
  await metadata.images.put(IMAGE, [])
  await metadata.decisions.put(DIGEST, [decision], 0)
  const signature = { kind: 'simple', ...signSimple('a.test/x', DIGEST, key) } as const
  const asked = { locations: [registryLocation(parseReference('a.test/x/y'))], pin: undefined }
  const findSignatures = async function* findSignatures() {
    yield signature
  }
  const source = { name: storedReference('a.test/x/y'), asked, findSignatures }
  await assert.rejects(
    enforcer.admit({ source, from: [], digest: DIGEST, ids: [DIGEST] }, undefined),
    (error) => isLoamError(error, 'POLICY_REFUSED'),
  )
})

test('an image is allowed if each of its locations would be allowed by itself, and only then', async () => {
  const kind = fc.constantFrom('accept', 'reject', 'digest-only')
  const scopes = ['a.test', 'a.test/x', '*.test', 'docker.io/library', 'oci:', 'oci:/srv', 'appc:', 'commit:']
  const policy = fc.record({
    default: kind,
    scope: fc.dictionary(
      fc.constantFrom(...scopes),
      kind.map((policyKind) => ({ policy: policyKind })),
    ),
  })
  const location = fc.constantFrom<ImageLocation>(
    registryLocation(parseReference('a.test/x/y')),
    registryLocation(parseReference('b.test:5000/x')),
    registryLocation(parseReference('busybox')),
    fileLocation('oci', '/srv/x'),
    fileLocation('oci', '/tmp/x'),
    fileLocation('commit', 'web'),
    { kind: 'appc', name: 'a.test/x' },
    UNKNOWN_LOCATION,
  )
  const pin = fc.constantFrom(undefined, DIGEST, OTHER)
  await fc.assert(
    fc.asyncProperty(
      policy,
      fc.array(location, { minLength: 1, maxLength: 4 }),
      pin,
      async (value, locations, wanted) => {
        const file = { what: 'test', readNamed: () => Buffer.alloc(0), defaultRegistry: 'docker.io' }
        const enforcer = new PolicyEnforcer(parsePolicy(value, file), metadata)
        const alone: boolean[] = []
        for (const one of locations) alone.push(await isAdmitted(enforcer, [one], [], wanted))
        const [asked, ...from] = locations
        assert.ok(asked !== undefined)
        const isEvery = alone.every(Boolean)
        assert.equal(await isAdmitted(enforcer, [asked], from, wanted), isEvery)
        assert.equal(await isAdmitted(enforcer, locations, [], wanted), isEvery)
        assert.equal(await isAdmitted(enforcer, locations.toReversed(), from, wanted), isEvery)
      },
    ),
  )
})
