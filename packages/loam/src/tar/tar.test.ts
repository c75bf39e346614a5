import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { formatTarHeader, type TarEntry, tarEnd, tarPadding, TarReader, TarScan } from './index.ts'

/** Reads a tar in pieces of a size; small pieces put every boundary somewhere. */
function read(tar: Buffer, pieceBytes = tar.length): TarEntry[] {
  const entries: TarEntry[] = []
  const reader = new TarReader((entry) => entries.push(entry))
  for (let at = 0; at < tar.length; at += pieceBytes) reader.write(tar.subarray(at, at + pieceBytes))
  reader.end()
  return entries
}

/** Reads a tar as a file, seeking over data. */
function scan(tar: Buffer): TarEntry[] {
  const entries: TarEntry[] = []
  const scanned = new TarScan(new TarReader((entry) => entries.push(entry)))
  while (scanned.take(tar.subarray(Math.min(scanned.position, tar.length)).copy(scanned.window)));
  return entries
}

function header(
  fields: Partial<
    Record<
      | 'name'
      | 'mode'
      | 'type'
      | 'size'
      | 'uid'
      | 'mtime'
      | 'link'
      | 'magic'
      | 'major'
      | 'minor'
      | 'prefix'
      | 'segments'
      | 'realSize',
      string | Buffer
    >
  >,
): Buffer {
  const block = Buffer.alloc(512)
  const put = (value: string | Buffer, at: number) => Buffer.from(value as string, 'latin1').copy(block, at)
  put(fields.name ?? 'x', 0)
  put(fields.mode ?? '0000644\0', 100)
  put(fields.uid ?? '0000000\0', 108)
  put('0000000\0', 116)
  put(fields.size ?? '00000000000\0', 124)
  put(fields.mtime ?? '00000000000\0', 136)
  put(fields.type ?? '0', 156)
  put(fields.link ?? '', 157)
  put(fields.magic ?? 'ustar\x0000', 257)
  put(fields.major ?? '', 329)
  put(fields.minor ?? '', 337)
  put(fields.prefix ?? '', 345)
  put(fields.segments ?? '', 386)
  put(fields.realSize ?? '', 483)
  block.fill(32, 148, 156)
  put(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  )
  return block
}

function pax(records: readonly (readonly [string, string | Buffer])[], type = 'x'): Buffer {
  const body = Buffer.concat(
    records.map(([key, value]) => {
      const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from('\n')])
      let length = rest.length + 1
      while (String(length).length + rest.length !== length) length = String(length).length + rest.length
      return Buffer.concat([Buffer.from(String(length)), rest])
    }),
  )
  return Buffer.concat([
    header({ name: 'pax', type, size: octal(body.length) }),
    body,
    tarPadding(body.length),
  ])
}

const octal = (value: number) => `${value.toString(8).padStart(11, '0')}\0`
/** A negative number in base 256. */
const negative = (value: number, length: number) => {
  const bytes = Buffer.alloc(length, 0xff)
  bytes.writeInt32BE(value, length - 4)
  return bytes
}
const data = (text: string) => Buffer.concat([Buffer.from(text), tarPadding(text.length)])
const one = (...parts: readonly Buffer[]): TarEntry => {
  const [entry] = read(Buffer.concat([...parts, tarEnd()]))
  assert.ok(entry !== undefined)
  return entry
}

describe('tar reader', () => {
  test('the tar reader reads names as bytes, from headers, prefixes, pax and GNU long names', () => {
    assert.deepEqual(one(header({ name: 'f\xff\xfe' })).name, Buffer.from('f\xff\xfe', 'latin1'))
    assert.equal(
      one(header({ name: 'name', prefix: 'p'.repeat(150) })).name.toString(),
      `${'p'.repeat(150)}/name`,
    )
    assert.deepEqual(
      one(pax([['path', Buffer.from([0x64, 0xff])]]), header({})).name,
      Buffer.from([0x64, 0xff]),
    )
    const long = `${'a/'.repeat(150)}z\0`
    const gnu = one(
      header({ type: 'L', size: octal(long.length), magic: 'ustar  \0' }),
      data(long),
      header({ name: 'cut', magic: 'ustar  \0' }),
    )
    assert.equal(gnu.name.toString(), long.slice(0, -1))
  })

  test('the tar reader does not take the times of an old GNU header for a prefix', () => {
    assert.equal(one(header({ name: 'f', magic: 'ustar  \0', prefix: '14000000000' })).name.toString(), 'f')
  })

  test('the tar reader reads numbers in octal, base 256 and pax, and times before 1970', () => {
    assert.equal(one(header({ uid: '  1750 \0' })).uid, 0o1750)
    assert.equal(one(header({ uid: Buffer.from('80000000fffffffe', 'hex') })).uid, 4_294_967_294)
    assert.equal(one(pax([['uid', '4294967294']]), header({})).uid, 4_294_967_294)
    const time = (text: string) => {
      const { mtimeSeconds, mtimeNanoseconds } = one(pax([['mtime', text]]), header({}))
      return [mtimeSeconds, mtimeNanoseconds]
    }
    assert.deepEqual(time('1700000000.123456789123'), [1_700_000_000, 123_456_789])
    assert.deepEqual(time('-1.5'), [-2, 500_000_000])
    assert.equal(one(header({ mtime: Buffer.from('ffffffffffffffffffffffff', 'hex') })).mtimeSeconds, -1)
  })

  test('the tar reader keeps binary and empty xattrs, and a local record wins over a global one', () => {
    const value = Buffer.from([0x80, 0xff, 10, 61, 0, 122])
    const entry = one(
      pax(
        [
          ['SCHILY.xattr.user.a', 'global'],
          ['mtime', '5'],
        ],
        'g',
      ),
      pax([
        ['SCHILY.xattr.user.a', value],
        ['SCHILY.xattr.user.e', ''],
      ]),
      header({}),
    )
    assert.deepEqual(
      entry.xattrs.map(({ name, value: bytes }) => [name.toString(), bytes]),
      [
        ['user.a', value],
        ['user.e', Buffer.alloc(0)],
      ],
    )
    assert.equal(entry.mtimeSeconds, 5)
  })

  test('an empty local record means the value of the header, also if there is a global one', () => {
    const global = pax(
      [
        ['path', 'global'],
        ['mtime', '5'],
        ['size', '7'],
      ],
      'g',
    )
    const local = pax([
      ['path', ''],
      ['mtime', ''],
      ['size', ''],
    ])
    const entry = one(global, local, header({ name: 'own', mtime: octal(9) }))
    assert.deepEqual([entry.name.toString(), entry.mtimeSeconds, entry.sizeBytes], ['own', 9, 0])
  })

  test('the tar reader uses the size of pax for the entry alone, and reads no data where there are none', () => {
    const entries = read(
      Buffer.concat([
        pax([['size', '5']]),
        header({ name: 'f' }),
        data('hello'),
        header({ name: 'link', type: '1', size: octal(5), link: 'f' }),
        header({ name: 'g' }),
        tarEnd(),
      ]),
    )
    assert.deepEqual(
      entries.map(({ name, sizeBytes }) => [name.toString(), sizeBytes]),
      [
        ['f', 5],
        ['link', 0],
        ['g', 0],
      ],
    )
  })

  test('the tar reader knows old types: NUL and 7 are files, and a file whose name ends in a slash is a directory', () => {
    assert.equal(one(header({ type: '\0' })).type, 'file')
    assert.equal(one(header({ type: '7' })).type, 'file')
    assert.equal(one(header({ name: 'd/', type: '\0', magic: '\0' })).type, 'directory')
    // The slash at the end decides, as in GNU tar and bsdtar; with data, readers differ.
    assert.equal(one(pax([['path', 'd/']]), header({ name: 'f' })).type, 'directory')
    assert.throws(
      () => read(Buffer.concat([header({ name: 'd/', size: octal(5) }), Buffer.alloc(512, 'x')])),
      (error) => isLoamError(error, 'TAR_INVALID'),
    )
  })

  test('the tar reader reads pax sparse maps of all forms', () => {
    const segments = [
      { offset: 0, length: 3 },
      { offset: 10, length: 2 },
    ]
    const base: [string, string][] = [['GNU.sparse.size', '20']]
    const v00 = one(
      pax([
        ...base,
        ['GNU.sparse.offset', '0'],
        ['GNU.sparse.numbytes', '3'],
        ['GNU.sparse.offset', '10'],
        ['GNU.sparse.numbytes', '2'],
      ]),
      header({ size: octal(5) }),
      data('abcde'),
    )
    const v01 = one(
      pax([...base, ['GNU.sparse.map', '0,3,10,2'], ['GNU.sparse.name', 'real']]),
      header({ size: octal(5) }),
      data('abcde'),
    )
    const map = '2\n0\n3\n10\n2\n'.padEnd(512, '\0')
    const v10 = one(
      pax([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.realsize', '20'],
        ['GNU.sparse.name', 'real'],
      ]),
      header({ size: octal(517) }),
      data(`${map}abcde`),
    )
    for (const entry of [v00, v01, v10]) {
      assert.deepEqual(entry.sparse, segments)
      assert.equal(entry.sizeBytes, 20)
    }
    assert.equal(v10.name.toString(), 'real')
    assert.equal(v10.dataOffset % 512, 0)
  })

  const sparse10: readonly [string, string][] = [
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.realsize', '5'],
    ['GNU.sparse.name', 's'],
  ]
  const sparse01: readonly [string, string][] = [
    ['GNU.sparse.size', '20'],
    ['GNU.sparse.numblocks', '2'],
    ['GNU.sparse.map', '0,3,10,2'],
  ]
  const without = (records: readonly [string, string][], key: string) =>
    records.filter(([other]) => other !== `GNU.sparse.${key}`)
  /** A sparse file of form 1.0, as its records say. */
  const in10 = (records: readonly [string, string][]) =>
    Buffer.concat([
      pax(records),
      header({ size: octal(517) }),
      data(`${'1\n0\n5\n'.padEnd(512, '\0')}hello`),
      tarEnd(),
    ])
  /** A sparse file whose map is in its records. */
  const in01 = (records: readonly [string, string][]) =>
    Buffer.concat([pax(records), header({ size: octal(5) }), data('abcde'), tarEnd()])

  test('the tar reader takes the sets of sparse records that GNU tar writes', () => {
    assert.equal(read(in10(sparse10)).length, 1)
    assert.equal(read(in01(sparse01)).length, 1)
  })

  const refused: Record<string, Buffer> = {
    'a sparse file of form 1.0 without data, before another file': Buffer.concat([
      pax(sparse10),
      header({}),
      header({ name: 'secret', size: octal(6) }),
      data('secret'),
      tarEnd(),
    ]),
    'a sparse file of form 1.0 without data, at the end': Buffer.concat([
      pax(sparse10),
      header({}),
      tarEnd(),
    ]),
    'a sparse map that is longer than its file': Buffer.concat([
      pax(sparse10),
      header({ size: octal(512) }),
      data('2\n0\n2\n2\n'.padEnd(512, '\0')),
      data('3\n'),
      tarEnd(),
    ]),
    'a sparse file of form 1.0 without its size': in10(without(sparse10, 'realsize')),
    'a sparse file of form 1.0 without its minor number': in10(without(sparse10, 'minor')),
    'a sparse file of form 1.0 without its major number': in10(without(sparse10, 'major')),
    'a sparse file of form 1.1': in10([...sparse10, ['GNU.sparse.minor', '1']]),
    'a sparse file of form 1.0 with a map in its records': in10([...sparse10, ['GNU.sparse.map', '0,5']]),
    'a sparse file that only has a name': in01([['GNU.sparse.name', 's']]),
    'a sparse file of form 0.1 without its size': in01(without(sparse01, 'size')),
    'a sparse file of form 0.1 without its map': in01(without(sparse01, 'map')),
    'a sparse file of form 0.1 with another number of segments': in01([
      ...sparse01,
      ['GNU.sparse.numblocks', '3'],
    ]),
    'a sparse file of two sizes': in01([...sparse01, ['GNU.sparse.realsize', '30']]),
    'a sparse file with two maps': in01([
      ...sparse01,
      ['GNU.sparse.offset', '0'],
      ['GNU.sparse.numbytes', '5'],
    ]),
    'a sparse file of form 0.0 whose lengths come first': in01([
      ['GNU.sparse.size', '20'],
      ['GNU.sparse.numbytes', '0'],
      ['GNU.sparse.offset', '5'],
    ]),
    'sparse records at a hard link': Buffer.concat([
      pax([
        ['GNU.sparse.size', '20'],
        ['GNU.sparse.map', ''],
      ]),
      header({ type: '1', link: 'f' }),
      tarEnd(),
    ]),
    'sparse records at a sparse file of the old form': Buffer.concat([
      pax(sparse01),
      header({
        type: 'S',
        size: octal(5),
        segments: `${octal(0)}${octal(5)}`,
        realSize: octal(20),
        magic: 'ustar  \0',
      }),
      data('abcde'),
      tarEnd(),
    ]),
    'a sparse file of the old form with a negative size': Buffer.concat([
      header({ type: 'S', realSize: negative(-1, 12), magic: 'ustar  \0' }),
      tarEnd(),
    ]),
    'a sparse file of the old form with a negative length': Buffer.concat([
      header({
        type: 'S',
        size: octal(5),
        segments: Buffer.concat([
          Buffer.from(octal(10)),
          negative(-5, 12),
          Buffer.from(`${octal(5)}${octal(10)}`),
        ]),
        realSize: octal(20),
        magic: 'ustar  \0',
      }),
      data('abcde'),
      tarEnd(),
    ]),
    'a negative major number of a device': Buffer.concat([
      header({ type: '3', major: negative(-1, 8) }),
      tarEnd(),
    ]),
    'a negative minor number of a device': Buffer.concat([
      header({ type: '4', minor: negative(-5, 8) }),
      tarEnd(),
    ]),
    'a negative mode': Buffer.concat([header({ mode: negative(-1, 8) }), tarEnd()]),
    'a wrong checksum': Buffer.concat([header({}).fill('Z', 10, 11), tarEnd()]),
    'a malformed number': Buffer.concat([header({ size: '0000000008x\0' }), tarEnd()]),
    'a negative size': Buffer.concat([
      header({ size: Buffer.from('ffffffffffffffffffffffff', 'hex') }),
      tarEnd(),
    ]),
    'a size past 2^53': Buffer.concat([
      header({ size: Buffer.from('800000000fffffffffffffff', 'hex') }),
      tarEnd(),
    ]),
    'an unknown type': Buffer.concat([header({ type: 'Q' }), tarEnd()]),
    'a NUL in a pax name': Buffer.concat([pax([['path', 'a\0b']]), header({}), tarEnd()]),
    'a pax record that lies about its length': Buffer.concat([
      header({ type: 'x', size: octal(8) }),
      data('99 a=bcd'),
      header({}),
      tarEnd(),
    ]),
    'a huge extended header': Buffer.concat([header({ type: 'x', size: octal(2 << 20) })]),
    'an end in the middle of data': Buffer.concat([header({ size: octal(5000) }), Buffer.alloc(600)]),
    'an end in the middle of a header': header({}).subarray(0, 100),
    'a header behind a lone zero block': Buffer.concat([Buffer.alloc(512), header({})]),
    'overlapping sparse segments': Buffer.concat([
      pax([
        ['GNU.sparse.size', '20'],
        ['GNU.sparse.map', '0,3,1,2'],
      ]),
      header({ size: octal(5) }),
      data('abcde'),
      tarEnd(),
    ]),
    'a sparse segment outside of the file': Buffer.concat([
      pax([
        ['GNU.sparse.size', '4'],
        ['GNU.sparse.map', '0,3,10,2'],
      ]),
      header({ size: octal(5) }),
      data('abcde'),
      tarEnd(),
    ]),
  }
  for (const [name, tar] of Object.entries(refused)) {
    test(`the tar reader refuses ${name}`, () => {
      assert.throws(
        () => read(tar),
        (error) => isLoamError(error, 'TAR_INVALID', 'LAYER_LIMIT'),
      )
    })
  }

  test('a tar that ends in the middle of data is refused also if data are passed over', () => {
    const whole = Buffer.concat([header({ size: octal(500_000) }), Buffer.alloc(500_224), tarEnd()])
    assert.equal(scan(whole).length, 1)
    for (const bytes of [70_000, 100_000, 500_735])
      assert.throws(
        () => scan(whole.subarray(0, bytes)),
        (error) => isLoamError(error, 'TAR_INVALID'),
      )
  })

  test('the tar reader accepts an archive without zero blocks at its end, and an empty one', () => {
    assert.equal(read(header({})).length, 1)
    assert.equal(read(Buffer.alloc(0)).length, 0)
    assert.equal(read(Buffer.concat([tarEnd(), Buffer.alloc(9216)])).length, 0)
  })

  test('the tar reader returns what the writer writes, in pieces of any size', () => {
    const bytes = (max: number) =>
      fc
        .uint8Array({ minLength: 1, maxLength: max })
        .map((array) => Buffer.from(array.map((byte) => (byte === 0 || byte === 47 ? 65 : byte))))
    const entry = fc.record({
      type: fc.constantFrom('file' as const, 'symlink' as const, 'directory' as const, 'fifo' as const),
      name: bytes(300),
      linkName: bytes(300),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 4_294_967_294 }),
      gid: fc.integer({ min: 0, max: 4_294_967_294 }),
      mtimeSeconds: fc.integer({ min: -(2 ** 33), max: 2 ** 34 }),
      mtimeNanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
      xattrs: fc.array(
        fc.record({
          name: fc.constantFrom('user.a', 'security.b').map((name) => Buffer.from(name)),
          value: fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)),
        }),
        { maxLength: 1 },
      ),
    })
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 5 }),
        fc.integer({ min: 1, max: 1500 }),
        (entries, pieceBytes) => {
          const tar = Buffer.concat([...entries.map((input) => formatTarHeader(input)), tarEnd()])
          const expected = entries.map((input) => ({
            ...input,
            xattrs: input.xattrs.map(({ name, value }) => ({ name, value })),
            linkName: input.type === 'symlink' ? input.linkName : Buffer.alloc(0),
          }))
          const actual = read(tar, pieceBytes).map(
            ({ type, name, linkName, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs }) => ({
              type,
              name,
              linkName,
              mode,
              uid,
              gid,
              mtimeSeconds,
              mtimeNanoseconds,
              xattrs: [...xattrs],
            }),
          )
          assert.deepEqual(actual, expected)
        },
      ),
    )
  })

  test('the tar reader ends at an error or at the end of a damaged archive, never further', () => {
    const good = Buffer.concat([
      pax([
        ['path', 'name'],
        ['mtime', '1.5'],
      ]),
      header({ size: octal(3) }),
      data('abc'),
      header({ name: 'd/', type: '5' }),
      tarEnd(),
    ])
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        (changes) => {
          const damaged = Buffer.from(good)
          for (const [at, byte] of changes) damaged[at] = byte
          try {
            read(damaged, 700)
          } catch (error) {
            assert.ok(isLoamError(error, 'TAR_INVALID', 'LAYER_LIMIT'), String(error))
          }
        },
      ),
    )
  })
})
