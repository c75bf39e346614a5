import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import {
  chainIds,
  formatPlatform,
  normalizePlatform,
  runsOn,
  formatReference,
  isDigest,
  parseDiffId,
  parseManifestDocument,
  parseImageConfig,
  parsePlatform,
  parseReference,
  parseStrictJson,
  platformDistance,
} from './index.ts'

const SHA256 = `sha256:${'a'.repeat(64)}`
const SHA512 = `sha512:${'b'.repeat(128)}`
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))
const hasCode = (code: ErrorCode) => (error: unknown) => isLoamError(error, code)

describe('references', () => {
  const cases: Record<string, string> = {
    busybox: 'docker.io/library/busybox:latest',
    'docker.io/busybox': 'docker.io/library/busybox:latest',
    'index.docker.io/library/busybox:1': 'docker.io/library/busybox:1',
    'owner/app:v1.2_x': 'docker.io/owner/app:v1.2_x',
    'localhost/app': 'localhost/app:latest',
    'localhost:5000/a/b/c:tag': 'localhost:5000/a/b/c:tag',
    '127.0.0.1:5000/app': '127.0.0.1:5000/app:latest',
    '[::1]:5000/app:1': '[::1]:5000/app:1',
    'GHCR.example/x': 'ghcr.example/x:latest',
    [`quay.io/x/y@${SHA256}`]: `quay.io/x/y@${SHA256}`,
    [`quay.io/x/y:tag@${SHA512}`]: `quay.io/x/y:tag@${SHA512}`,
    'a/b__c/d--e.f': 'docker.io/a/b__c/d--e.f:latest',
  }
  for (const [typed, normalised] of Object.entries(cases)) {
    test(`the reference ${typed} is ${normalised}`, () => {
      const reference = parseReference(typed)
      assert.equal(formatReference(reference), normalised)
      assert.equal(reference.typed, typed)
      assert.equal(formatReference(parseReference(normalised)), normalised)
    })
  }

  for (const wrong of [
    '',
    'UPPER',
    'a//b',
    '-a',
    'a:',
    'a:!',
    'a@sha256:12',
    `a@md5:${'a'.repeat(32)}`,
    'host:port/x',
    '/a',
    'a/',
    'a b',
    'a\n',
    '../a',
    `x/${'a'.repeat(256)}`,
    'a'.repeat(64),
  ]) {
    test(`the reference ${JSON.stringify(wrong.slice(0, 20))} is refused`, () => {
      assert.throws(() => parseReference(wrong), hasCode('REFERENCE_INVALID'))
    })
  }

  test('any text is parsed as a reference or refused, and a parsed one stays the same when it is parsed again', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab1.:/@-_[]A'.split('')) }), (text) => {
        try {
          const normalised = formatReference(parseReference(text))
          assert.equal(formatReference(parseReference(normalised)), normalised)
        } catch (error) {
          assert.ok(isLoamError(error, 'REFERENCE_INVALID'))
        }
      }),
    )
  })
})

describe('digests', () => {
  test('only sha256 and sha512 in lower-case hex are digests', () => {
    assert.ok(isDigest(SHA256) && isDigest(SHA512))
    for (const wrong of [
      `${SHA256}\n`,
      SHA256.toUpperCase(),
      SHA256.slice(0, -1),
      'sha256:../../x',
      `sha1:${'a'.repeat(40)}`,
      7,
      undefined,
    ]) {
      assert.ok(!isDigest(wrong))
    }
  })

  test('a chainID hashes the chainID below and the diffID', () => {
    const [a, b] = [parseDiffId(SHA256), parseDiffId(`sha256:${'c'.repeat(64)}`)]
    assert.deepEqual(chainIds([a, b]), [
      SHA256,
      'sha256:8cf101b1aace3120bd544d67bf33c304e2640a01392096fc3a3d9bc20a05c92c',
    ])
    assert.notEqual(chainIds([b, a])[1], chainIds([a, b])[1])
  })
})

describe('platforms', () => {
  test('other names and default variants are the same platform', () => {
    assert.equal(formatPlatform(parsePlatform('linux/x86_64')), 'linux/amd64')
    assert.equal(formatPlatform(parsePlatform('linux/aarch64/v8')), 'linux/arm64')
    assert.equal(formatPlatform(parsePlatform('linux/armhf')), 'linux/arm')
    assert.equal(formatPlatform(parsePlatform('linux/arm/6')), 'linux/arm/v6')
    assert.throws(() => parsePlatform('linux'), hasCode('PLATFORM_INVALID'))
  })

  test('a platform may have the name of a property that all objects have', () => {
    for (const architecture of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
      const offered = { os: 'linux', architecture, variant: 'v1' }
      assert.equal(formatPlatform(normalizePlatform(offered)), `linux/${architecture.toLowerCase()}/v1`)
      assert.equal(platformDistance(parsePlatform(`linux/${architecture}`), offered), undefined)
      assert.equal(runsOn(offered, parsePlatform('linux/amd64')), false)
    }
  })

  test('an image runs on a machine whatever the case of its platform', () => {
    const offered = { os: 'Linux', architecture: 'X86_64', variant: 'V2' }
    assert.equal(platformDistance(parsePlatform('linux/amd64/v2'), offered), 0)
  })

  test('a machine runs its own level of a platform and those below it, the nearest first', () => {
    const distance = (wanted: string, offered: string) =>
      platformDistance(parsePlatform(wanted), parsePlatform(offered))
    assert.equal(distance('linux/amd64/v3', 'linux/amd64/v3'), 0)
    assert.equal(distance('linux/amd64/v3', 'linux/amd64'), 2)
    assert.equal(distance('linux/amd64', 'linux/amd64/v2'), undefined)
    assert.equal(distance('linux/arm/v7', 'linux/arm/v6'), 1)
    assert.equal(distance('linux/arm/v6', 'linux/arm/v7'), undefined)
    assert.equal(distance('linux/arm64', 'linux/amd64'), undefined)
    assert.equal(distance('linux/riscv64', 'linux/riscv64'), 0)
  })
})

describe('documents', () => {
  const descriptor = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: SHA256, size: 3 }
  const config = { ...descriptor, mediaType: 'application/vnd.oci.image.config.v1+json' }
  const manifest = { schemaVersion: 2, config, layers: [descriptor, descriptor] }

  test('a manifest keeps a layer that comes twice', () => {
    const parsed = parseManifestDocument(
      bytes(manifest),
      'application/vnd.oci.image.manifest.v1+json; charset=utf-8',
      'm',
    )
    assert.equal(parsed.kind === 'manifest' && parsed.layers.length, 2)
  })

  test('an index ignores unknown entries', () => {
    const entry = { ...descriptor, mediaType: 'application/vnd.oci.image.manifest.v1+json' }
    const index = { schemaVersion: 2, manifests: [entry, { ...entry, mediaType: 'application/x-other' }] }
    const parsed = parseManifestDocument(bytes(index), undefined, 'i')
    assert.equal(parsed.kind === 'index' && parsed.manifests.length, 1)
  })

  const refused: [string, unknown, string | undefined, string][] = [
    ['both an index and a manifest', { ...manifest, manifests: [] }, undefined, 'DOCUMENT_INVALID'],
    [
      'another type than announced',
      { ...manifest, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
      'application/vnd.docker.distribution.manifest.v2+json',
      'DOCUMENT_INVALID',
    ],
    [
      'a manifest announced as an index',
      manifest,
      'application/vnd.oci.image.index.v1+json',
      'DOCUMENT_INVALID',
    ],
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, undefined, 'DOCUMENT_INVALID'],
    [
      'an artifact',
      { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
      undefined,
      'MEDIA_TYPE_UNSUPPORTED',
    ],
    [
      'a digest that leads out',
      { ...manifest, config: { ...config, digest: 'sha256:../../../etc/passwd' } },
      undefined,
      'DOCUMENT_INVALID',
    ],
    ['a negative size', { ...manifest, config: { ...config, size: -1 } }, undefined, 'DOCUMENT_INVALID'],
    ['no object', [], undefined, 'DOCUMENT_INVALID'],
    ['neither', { schemaVersion: 2 }, undefined, 'DOCUMENT_INVALID'],
  ]
  for (const [name, value, contentType, code] of refused) {
    test(`the document is refused: ${name}`, () => {
      assert.throws(
        () => parseManifestDocument(bytes(value), contentType, 'm'),
        (error) => isLoamError(error) && error.code === code,
      )
    })
  }

  test('JSON with a duplicate key, deep nesting or invalid UTF-8 is refused', () => {
    assert.throws(() => parseStrictJson(Buffer.from('{"a":1,"a":2}'), 'x'), hasCode('DOCUMENT_INVALID'))
    assert.throws(() => parseStrictJson(Buffer.from('{"a":1,"\\u0061":2}'), 'x'), hasCode('DOCUMENT_INVALID'))
    assert.throws(
      () => parseStrictJson(Buffer.from('['.repeat(100) + ']'.repeat(100)), 'x'),
      hasCode('DOCUMENT_INVALID'),
    )
    assert.throws(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22]), 'x'), hasCode('DOCUMENT_INVALID'))
    assert.deepEqual(parseStrictJson(Buffer.from('{"a":{"b":1},"b":"{\\"b\\":1,"}'), 'x'), {
      a: { b: 1 },
      b: '{"b":1,',
    })
  })

  test('a web page instead of a document gives a hint', () => {
    assert.throws(
      () => parseStrictJson(Buffer.from('<!DOCTYPE html>'), 'x'),
      (error) => isLoamError(error) && error.hint?.includes('web page') === true,
    )
  })

  test('a config with nulls, as Go writes it, has empty values', () => {
    const parsed = parseImageConfig(
      bytes({
        architecture: 'amd64',
        os: 'linux',
        config: { Env: null, Cmd: null },
        rootfs: { type: 'layers', diff_ids: null },
      }),
      'c',
    )
    assert.deepEqual([parsed.diffIds, parsed.run.env, parsed.run.cmd], [[], [], []])
  })
})
