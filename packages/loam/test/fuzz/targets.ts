// Everything that reads bytes from outside, as functions that a fuzzer can call.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { parse as parseToml } from 'smol-toml'
import { parseImageRequest } from '../../src/sources/image-request.ts'
import { readConfiguration } from '../../src/config/index.ts'
import { ErofsImage, readLayerImage, writeErofs } from '../../src/erofs/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import {
  formatAppcName,
  formatLazyArtifact,
  formatLazyProfile,
  formatReference,
  parseAppcManifest,
  parseAppcName,
  parseDiffId,
  parseImageConfig,
  parseLazyArtifact,
  parseLazyProfile,
  parseManifestDocument,
  parsePlatform,
  parseReference,
  parseSchema1,
  parseStrictJson,
  parseV1Json,
} from '../../src/image/index.ts'
import { decompress } from '../../src/compression/decompress.ts'
import { parseMountTable } from '../../src/linux/mount-table.ts'
import { parsePolicy } from '../../src/policy/index.ts'
import { parseChallenges } from '../../src/registry/challenge.ts'
import { findEndpoints } from '../../src/registry/endpoints.ts'
import { credentialsFromConfig } from '../../src/registry/index.ts'
import { resolveUser } from '../../src/runtime/users.ts'
import { parseFilters } from '../../src/snapshotter/filters.ts'
import { renderUrls } from '../../src/sources/appc/discovery.ts'
import { type TarEntry, TarReader } from '../../src/tar/index.ts'
import {
  buildImage,
  buildTar,
  LOWER_LINK,
  createKeyPair,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
} from '../../src/testing/index.ts'
import { applyLayer, FileTree, LayerTreeBuilder, splitPath } from '../../src/tree/index.ts'
import type { Random } from '../faults/random.ts'
import type { Target } from './engine.ts'
import { LAZY_INDEX } from './lazy-index.ts'
import { TIME } from './time.ts'

const PLATFORM = { os: 'linux', architecture: 'amd64' }
const text = (...texts: readonly string[]) => texts.map((one) => Buffer.from(one, 'latin1'))
const json = (...values: readonly unknown[]) => values.map((value) => Buffer.from(JSON.stringify(value)))

/** Cuts bytes into pieces at random places. */
function* pieces(input: Buffer, random: Random): Generator<Buffer> {
  for (let at = 0; at < input.length; ) {
    const end = at + 1 + random.below(random.next() < 0.5 ? 16 : 1500)
    yield Buffer.from(input.subarray(at, end))
    at = end
  }
}

/** The result of reading: entries, or the code of an error. */
function readTar(chunks: Iterable<Buffer>): TarEntry[] | string {
  const entries: TarEntry[] = []
  const reader = new TarReader((entry) => entries.push(structuredClone(entry)))
  try {
    for (const chunk of chunks) reader.write(chunk)
    reader.end()
    return entries
  } catch (error) {
    if (isLoamError(error)) return error.message
    throw error
  }
}

function buildTree(input: Buffer): FileTree {
  const builder = new LayerTreeBuilder({
    depth: 40,
    tarBytes: 1 << 20,
    entries: 5000,
    fileBytes: 2 ** 40,
    xattrBytes: 1 << 20,
    ratio: 1000,
  })
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  reader.write(input)
  reader.end()
  return builder.tree
}

function imageOf(tree: FileTree, tar: Buffer, contents: 'layer' | 'merged'): Buffer {
  const chunks: Buffer[] = []
  writeErofs(tree, {
    data: 'tar',
    contents,
    layers: [{ tag: 'x', sizeBytes: tar.length }],
    readData: (_layer, offset, target) => {
      tar.copy(target, 0, offset)
    },
    write: (chunk) => chunks.push(Buffer.from(chunk)),
  })
  return Buffer.concat(chunks)
}

const readFrom = (bytes: Buffer) => (position: number, length: number) =>
  bytes.subarray(position, position + length)

/** Corrects the checksums of headers (POSIX ustar). */
export function repairTar(input: Buffer): Buffer {
  for (let at = 0; at + 512 <= input.length; at += 512) {
    if (input.toString('latin1', at + 257, at + 262) !== 'ustar') continue
    input.fill(0x20, at + 148, at + 156)
    const sum = input.subarray(at, at + 512).reduce((total, byte) => total + byte, 0)
    input.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1')
  }
  return input
}

export const TAR_SEEDS = [
  ...[ODD_BASE, ODD_TOP, ODD_UNLISTED, LOWER_LINK].map((entries) => buildTar([...entries])),
  buildTar([
    { name: `${'long/'.repeat(30)}name`, data: 'x' },
    { name: 'a', type: 'symlink', linkName: 'b'.repeat(150) },
    { name: 'é', data: 'x' },
  ]),
  buildTar([
    { name: 'd/' },
    { name: 'd/.wh.x' },
    { name: 'd/.wh..wh..opq' },
    { name: 's', type: 'symlink', linkName: '../../d' },
    { name: 's/y', data: 'y' },
    { name: 'h', type: 'hardlink', linkName: 's/y' },
  ]),
]
export const TAR_WORDS = [
  '\0ustar\x0000',
  'ustar  \0',
  'path=',
  'linkpath=',
  'size=',
  'mtime=',
  'SCHILY.xattr.user.x=',
  'LIBARCHIVE.xattr.user.x=',
  'GNU.sparse.major=1\n',
  'GNU.sparse.map=0,1,5,2',
  'GNU.sparse.realsize=',
  'GNU.sparse.name=',
  'hdrcharset=',
  '30 ',
  '12 path=abc\n',
  '.wh.',
  '.wh..wh..opq',
  '../',
  '/',
  'x',
  'g',
  'L',
  'K',
  'S',
  '\x80\0\0\0\0\0\0\x01',
  '\xff\xff\xff\xff\xff\xff\xff\xff',
  '00000000000\0',
  '77777777777\0',
]

const tar: Target = {
  name: 'tar',
  seeds: () => TAR_SEEDS,
  words: TAR_WORDS,
  maxBytes: 12_000,
  repair: repairTar,
  run: (input, random) => {
    const whole = readTar([input])
    // It means the same in pieces of any size.
    assert.deepEqual(readTar(pieces(input, random)), whole)
    if (typeof whole !== 'string')
      for (const entry of whole)
        assert.ok(
          entry.dataOffset <= input.length + 512 && entry.sizeBytes >= 0,
          'data outside of the archive',
        )
  },
}

const layer: Target = {
  name: 'layer',
  seeds: () => TAR_SEEDS,
  words: TAR_WORDS,
  maxBytes: 12_000,
  repair: repairTar,
  run: (input) => {
    const tree = buildTree(input)
    const index = imageOf(tree, input, 'layer')
    const again = readLayerImage(readFrom(index), index.length)
    // Reading returns what was written.
    assert.ok(imageOf(again, input, 'layer').equals(index), 'its index is another tree')
    const direct = new FileTree()
    applyLayer(direct, tree, 0)
    const indirect = new FileTree()
    applyLayer(indirect, again, 0)
    assert.ok(
      imageOf(direct, input, 'merged').equals(imageOf(indirect, input, 'merged')),
      'it merges otherwise by its index',
    )
  },
}

const whiteouts: Target = {
  name: 'whiteouts',
  seeds: () => TAR_SEEDS.flatMap((base) => TAR_SEEDS.map((top) => joinTars(base, top))),
  words: TAR_WORDS,
  maxBytes: 24_000,
  repair: repairTar,
  run: (input) => {
    const cut = 2 + input.readUInt16BE(0) * (input.length > 2 ? 1 : 0)
    const [base, top] = [input.subarray(2, cut), input.subarray(cut)]
    const merged = new FileTree()
    for (const [index, part] of [base, top].entries()) applyLayer(merged, buildTree(part), index)
    const names = new Set<string>()
    for (let entry = 0; entry < merged.entryCount; entry += 1) {
      const path = merged.entryPath(entry).toString('latin1')
      if (merged.entryInode(entry) < 0) continue
      names.add(path)
      assert.ok(!/(?:^|\/)\.wh\./.test(path), `a whiteout is shown: ${path}`)
      assert.ok(!path.split('/').includes('..'), `it leads out: ${path}`)
    }
  },
}

function joinTars(base: Buffer, top: Buffer): Buffer {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(Math.min(base.length, 65_535))
  return Buffer.concat([head, base, top])
}

async function unpack(chunks: Iterable<Buffer>, withLibraries: boolean): Promise<Buffer | string> {
  const found: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of decompress(toAsync(chunks), { withLibraries })) {
      bytes += chunk.length
      if (bytes > 8 << 20) return 'large'
      found.push(Buffer.from(chunk))
    }
    return Buffer.concat(found)
  } catch (error) {
    if (isLoamError(error)) return error.code
    throw error
  }
}

async function* toAsync(chunks: Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* chunks
}

const [small, mixed] = [
  Buffer.from('hello hello hello'),
  buildTar([{ name: 'x', data: Buffer.alloc(3000, 'abc') }]),
]

const compression: Target = {
  name: 'compression',
  seeds: () => [
    gzipSync(small),
    Buffer.concat([gzipSync(small), gzipSync(mixed)]),
    Buffer.concat([gzipSync(small), Buffer.alloc(100)]),
    zstdCompressSync(small),
    Buffer.concat([zstdCompressSync(mixed), zstdCompressSync(small)]),
    Buffer.concat([Buffer.from('502a4d180300000001020328b52ffd', 'hex'), zstdCompressSync(small)]),
    small,
  ],
  words: ['\x1f\x8b\x08', '\x28\xb5\x2f\xfd', '\x50\x2a\x4d\x18', '\0\0\xff\xff', '\x1f\x8b\x08\x1c'],
  maxBytes: 4000,
  run: async (input, random) => {
    const whole = await unpack([Buffer.from(input)], false)
    const parts = await unpack(pieces(input, random), false)
    assert.deepEqual(parts, whole, 'in pieces it is something else')
    assert.deepEqual(await unpack([Buffer.from(input)], true), whole, 'ISA-L finds something else')
  },
}

const image = buildImage({ tars: [mixed], config: { Cmd: ['x'], Env: ['A=b'], User: 'x' } })
const documents: Target = {
  name: 'documents',
  isJson: true,
  seeds: () => [
    image.manifest.bytes,
    image.config.bytes,
    formatLazyArtifact(
      {
        subject: { mediaType: image.mediaType, digest: image.manifest.digest, sizeBytes: 1 },
        layers: image.diffIds.map((diffId) => ({
          blob: diffId,
          diffId: parseDiffId(diffId),
          index: { digest: diffId, sizeBytes: 2 },
        })),
        profile: undefined,
      },
      'x',
    ),
    formatLazyProfile(new Map(image.diffIds.map((digest) => [digest, [1, 0]]))),
    ...json(
      { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [] },
      {
        schemaVersion: 1,
        name: 'a/b',
        tag: 't',
        architecture: 'amd64',
        fsLayers: [{ blobSum: image.layers[0]?.digest }],
        history: [{ v1Compatibility: '{"id":"' + 'a'.repeat(64) + '"}' }],
      },
      { id: 'a'.repeat(64), parent: 'b'.repeat(64), created: '2020', config: { Cmd: ['x'] } },
      {
        acKind: 'ImageManifest',
        acVersion: '0.8.11',
        name: 'example.com/a',
        labels: [{ name: 'os', value: 'linux' }],
        app: { exec: ['/x'], user: '0', group: '0', workingDirectory: '/', environment: [] },
        dependencies: [{ imageName: 'example.com/b' }],
      },
      { auths: { 'x.test': { auth: 'YTpi' } }, credHelpers: {}, credsStore: '' },
      { type: 'docker', docker: { name: 'busybox' }, cached: true },
    ),
  ],
  words: [
    '"__proto__":',
    '"constructor":',
    '{',
    '}',
    '[',
    ']',
    'null',
    '1e400',
    '-1',
    '"\\ud800"',
    '\xff',
    'sha256:',
  ],
  maxBytes: 6000,
  run: (input) => {
    const readers: readonly (() => unknown)[] = [
      () => parseManifestDocument(input, undefined, 'x'),
      () => parseImageConfig(input, 'x'),
      () => parseLazyArtifact(input, 'x'),
      () => parseLazyProfile(input, 'x'),
      () => parseSchema1(input, 'x'),
      () => parseV1Json(input, 'x'),
      () => parseAppcManifest(input, 'x'),
      () => credentialsFromConfig(input.toString('utf8')),
      () =>
        parseImageRequest(parseStrictJson(input, 'x') as never, {
          registry: 'docker.io',
          platform: PLATFORM,
        }),
      () => {
        assert.deepEqual(parseStrictJson(input, 'x'), JSON.parse(input.toString('utf8')))
      },
    ]
    for (const read of readers) answersWithLoamError(read)
    assert.equal(Object.keys(Object.prototype).length, 0)
  },
}

function answersWithLoamError(act: () => unknown): void {
  try {
    act()
  } catch (error) {
    if (!isLoamError(error)) throw error
  }
}

const names: Target = {
  name: 'names',
  seeds: () =>
    text(
      'busybox',
      'docker.io/library/busybox:1.36',
      `127.0.0.1:5000/a/b@sha256:${'a'.repeat(64)}`,
      '[::1]:80/x:y',
      'appc://example.com/a,version=1,os=linux',
      'linux/arm64/v8',
      '../../etc/./x//y',
      'Bearer realm="https://x/y",service="z",scope="a:b:c", Basic realm="q"',
      'labels."a.b"==c,kind==active',
      'name~=^x,parent!=y',
      'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/false\n|user:1000',
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
      '<html><head><meta name="ac-discovery" content="example.com https://x/{name}-{version}.{ext}"></head>',
    ),
  words: [
    '@sha256:',
    ':',
    '/',
    'docker.io/',
    '..',
    '//',
    ',',
    '=',
    '"',
    '\\',
    '\0',
    '\n',
    '[',
    ']',
    'sha512:',
    '~=',
    '==',
  ],
  maxBytes: 3000,
  run: (input) => {
    const given = input.toString('utf8')
    const stable = (read: (value: string) => string) => {
      answersWithLoamError(() => {
        const once = read(given)
        assert.equal(read(once), once, `${JSON.stringify(given)} is ${once}, which is something else`)
      })
    }
    stable((value) => formatReference(parseReference(value)))
    stable((value) => formatAppcName(parseAppcName(value, PLATFORM)))
    answersWithLoamError(() => parsePlatform(given))
    answersWithLoamError(() => parseChallenges(given.split('\n')))
    answersWithLoamError(() => parseFilters(given.split('\n')))
    const [accounts = '', user = ''] = given.split('|')
    answersWithLoamError(() => resolveUser(user, { passwd: accounts, group: accounts }))
    parseMountTable(input.toString('latin1'))
    for (const part of splitPath(input) ?? []) assert.ok(!['', '.', '..'].includes(part.toString('latin1')))
    answersWithLoamError(() => renderUrls(given, parseAppcName('appc://example.com/a', PLATFORM)))
  },
}

const erofs: Target = {
  name: 'erofs',
  seeds: () =>
    TAR_SEEDS.slice(0, 3).flatMap((bytes) => {
      const tree = buildTree(bytes)
      const merged = new FileTree()
      applyLayer(merged, tree, 0)
      return [imageOf(tree, bytes, 'layer'), imageOf(merged, bytes, 'merged')]
    }),
  words: ['\xe2\xe1\xf5\xe0', '\0\0\0\0', '\xff\xff\xff\xff', 'trusted.loam.layer'],
  maxBytes: 20_000,
  run: (input) => {
    answersWithLoamError(() => readLayerImage(readFrom(input), input.length))
    const found = new ErofsImage(readFrom(input), input.length)
    const pending = [found.root()]
    let steps = 0
    for (let inode = pending.pop(); inode !== undefined && steps < 20_000; inode = pending.pop()) {
      steps += 1
      found.xattrs(inode)
      for (const _extent of found.extents(inode)) steps += 1
      if (found.isDirectory(inode)) for (const { nid } of found.entries(inode)) pending.push(found.inode(nid))
    }
  },
}

let folder: string | undefined
/** A file in memory, of this process alone. */
function written(name: string, input: Buffer): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'loam-fuzz-'))
    folder = made
    process.once('exit', () => {
      rmSync(made, { recursive: true })
    })
  }
  const path = join(folder, name)
  writeFileSync(path, input)
  return path
}

const KEY = Buffer.from(createKeyPair().publicPem)
const files: Target = {
  name: 'files',
  seeds: () =>
    text(
      'server = "https://x.test"\n[host."https://m.test"]\ncapabilities = ["pull"]\nskip_verify = true\n[host."https://m.test".header]\nx = ["y"]\n',
      'root = "/x"\ndocker_registry = "https://x"\nlimit_layer_bytes = "1GB"\nimage_gc_config = "{}"\n',
      'default = "reject"\n[scope."x.test"]\npolicy = "cosign"\nkeys = ["k"]\n',
      'default = "accept"\n[scope."x.test"]\npolicy = "sigstore"\ntrust_root = "t"\nidentities = [{issuer = "a", subject = "b"}]\n',
    ),
  words: ['[', ']', '=', '"', "'''", '{', '}', 'true', '1e400', '\0', '__proto__ = 1\n', 'inf', '[[host]]\n'],
  maxBytes: 3000,
  run: (input) => {
    const config = written('config.toml', input)
    answersWithLoamError(() => readConfiguration({ file: config }))
    written('hosts.toml', input)
    answersWithLoamError(() => {
      let value: unknown
      try {
        value = parseToml(input.toString('utf8'))
      } catch {
        return
      }
      parsePolicy(value, { what: 'x', readNamed: () => KEY, defaultRegistry: 'docker.io' })
    })
    const host = dirname(config)
    answersWithLoamError(() => findEndpoints(basename(host), { certsDirs: [dirname(host)], insecure: [] }))
  },
}

export const TARGETS: readonly Target[] = [
  tar,
  layer,
  whiteouts,
  compression,
  documents,
  names,
  erofs,
  files,
  LAZY_INDEX,
  TIME,
]
