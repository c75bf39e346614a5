import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { parseDigest } from '../image/index.ts'
import type { ListedImage } from '../images/index.ts'
import { captureHost } from '../../test/support/captured-host.ts'
import { fitTable } from './fit-table.ts'
import { imageList, imageRows, isNamed } from './image-rows.ts'
import { chooseRows, type ListFlags, writeList } from './lists.ts'
import { Output } from './output.ts'

const image = (letter: string, names: readonly string[], more: Partial<ListedImage> = {}): ListedImage => ({
  type: 'docker',
  digest: parseDigest(`sha256:${letter.repeat(64)}`),
  mediaType: '',
  configDigest: parseDigest(`sha256:${'0'.repeat(63)}${letter}`),
  chainId: undefined,
  platform: 'linux/amd64',
  sizeBytes: 1000,
  tarBytes: 2000,
  created: '2026-01-02T03:04:05Z',
  pulledAtMs: 1000,
  usedAtMs: 0,
  isLocal: false,
  layers: [],
  names,
  damage: undefined,
  ...more,
})

const IMAGES = [
  image('a', ['docker.io/library/busybox:1.36', 'localhost:5000/team/tools:v1'], { pulledAtMs: 3000 }),
  image('b', [], { pulledAtMs: 2000, tarBytes: 9e6 }),
  image('c', ['docker.io/library/debian:12'], { isLocal: true, platform: 'linux/arm64/v8', tarBytes: 5e6 }),
]

async function listed(flags: ListFlags, columns?: number): Promise<string> {
  const host = captureHost('/')
  const rows = imageRows(IMAGES)
  const definition = imageList(rows)
  const output = new Output(host, { json: false, quiet: false })
  const target = { host: { stdout: { ...host.stdout, columns } }, output, flags }
  await writeList(target, await chooseRows(rows, flags, definition), IMAGES, definition)
  return host.said.stdout
}

describe('a list', () => {
  test('--quiet prints each ID once', async () => {
    assert.equal(await listed({ quiet: true }), `${'a'.repeat(12)}\n${'b'.repeat(12)}\n${'c'.repeat(12)}\n`)
    assert.equal((await listed({ quiet: true, trunc: false })).split('\n')[0], `sha256:${'a'.repeat(64)}`)
  })

  test('a template writes a line for each row, and `table` aligns its columns', async () => {
    const lines = (await listed({ format: '{{.Repository}}:{{.Tag}}' })).split('\n')
    assert.deepEqual(lines.slice(0, 3), [
      'docker.io/library/busybox:1.36',
      'localhost:5000/team/tools:v1',
      '<none>:<none>',
    ])
    assert.equal(
      await listed({ format: String.raw`table {{.ID}}\t{{.Size}}`, filter: ['reference=debian'] }),
      `ID             SIZE\n${'c'.repeat(12)}   5.00 MB\n`,
    )
    assert.match(
      await listed({ format: '{{json .}}' }),
      /^\{"Name":"docker.io\/library\/busybox:1.36","ID":"aaaa/,
    )
    await assert.rejects(listed({ format: '{{.Foo}}' }), { message: /no field Foo; there are Name, ID/ })
  })

  test('functions on the values of rows do not fail for the heading, nor where there are no rows', async () => {
    const none = ['reference=nosuch']
    assert.equal(
      await listed({
        format: String.raw`table {{printf "%02d" .Layers}}\t{{.Tag}}`,
        filter: ['reference=debian'],
      }),
      'LAYERS   TAG\n00       12\n',
    )
    assert.equal(await listed({ format: '{{if lt .Layers 10}}few{{end}}', filter: none }), '')
    assert.equal(await listed({ format: '{{index (split .Name ":") 1}}', filter: none }), '')
    await assert.rejects(listed({ format: '{{.Foo}}', filter: none }), { message: /no field Foo/ })
    await assert.rejects(listed({ format: 'table {{.Foo}}', filter: none }), { message: /no field Foo/ })
    await assert.rejects(listed({ format: '{{nofunc .ID}}', filter: none }), {
      message: /no function nofunc/,
    })
  })

  test('filters of one key are alternatives, and those of several keys are all required', async () => {
    const ids = async (...filter: string[]) => listed({ filter, format: '{{.Tag}}' })
    assert.equal(await ids('dangling=true'), '<none>\n')
    assert.equal(await ids('reference=debian', 'reference=busybox'), '1.36\n12\n')
    assert.equal(await ids('origin=local', 'platform=linux/arm64'), '12\n')
    assert.equal(await ids('origin=local', 'dangling=true'), '')
    assert.equal(await ids('since=debian:12', 'dangling=false'), '1.36\nv1\n')
    await assert.rejects(ids('colour=red'), { hint: /There are reference, dangling/ })
    await assert.rejects(ids('dangling'), { code: 'USAGE' })
  })

  test('a value of a filter that nothing can have is refused, whatever there is and in any order', async () => {
    const choose = async (rows: ReturnType<typeof imageRows>, filter: readonly string[]) =>
      (await chooseRows(rows, { filter }, imageList(rows))).length
    for (const wrong of [
      'dangling=maybe',
      'before=nonexist',
      'since=nonexist',
      'origin=abroad',
      'digest=xyz',
      'id=',
      'platform=linux/',
      'colour=red',
    ]) {
      for (const filter of [[wrong], ['reference=zzz', wrong], [wrong, 'reference=zzz']])
        for (const rows of [imageRows(IMAGES), []])
          await assert.rejects(
            choose(rows, filter),
            (error) => isLoamError(error, 'USAGE', 'PLATFORM_INVALID', 'IMAGE_NOT_FOUND'),
            filter.join(' '),
          )
    }
    assert.equal(await choose(imageRows(IMAGES), ['platform=linux/x86_64', 'platform=windows']), 3)
    const of = (platform: string) => imageRows([{ ...IMAGES[0]!, platform }])
    for (const [platform, value, isListed] of [
      ['linux/arm/v6', 'linux/arm', true],
      ['linux/arm/v6', 'linux/arm/v7', false],
      ['linux/arm', 'linux/arm/v7', true],
      ['linux/amd64/v3', 'linux/amd64/v1', false],
    ] as const)
      assert.equal((await choose(of(platform), [`platform=${value}`])) > 0, isListed, `${platform} ${value}`)
  })

  test('--sort orders the rows, the largest first where the key has `desc`', async () => {
    const sorted = async (sort: string) =>
      (await listed({ sort, format: '{{.Tag}}' })).trim().split('\n').join(' ')
    assert.equal(await sorted('size'), '1.36 v1 12 <none>')
    assert.equal(await sorted('size:desc'), '<none> 12 1.36 v1')
    assert.equal(await sorted('pulled'), '1.36 v1 <none> 12')
    await assert.rejects(sorted('weight'), { hint: /There are pulled, created, size/ })
  })

  test('--sort makes the key of each row once, and other work runs meanwhile', async (t) => {
    const rows = Array.from({ length: 30_000 }, (_row, index) => (index * 7919) % 30_000)
    let [keys, turns] = [0, 0]
    const keyOf = (row: number) => {
      keys += 1
      return row
    }
    const interval = setInterval(() => (turns += 1), 1)
    t.after(() => clearInterval(interval))
    const chosen = await chooseRows(
      rows,
      { sort: 'number' },
      { fields: [], idOf: String, filters: {}, sorts: { number: keyOf } },
    )
    assert.deepEqual([chosen.at(0), chosen.at(-1), keys], [0, 29_999, 30_000])
    assert.ok(turns > 0)
  })

  test('--sort orders any number of rows as toSorted, and leaves those with one key in their order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 3000 }),
        fc.integer({ min: 1, max: 50 }),
        async (count, keys) => {
          const rows = Array.from({ length: count }, (_row, index) => ({ index, key: (index * 31) % keys }))
          const definition = {
            fields: [],
            idOf: String,
            filters: {},
            sorts: { key: (row: { key: number }) => row.key },
          }
          for (const sign of [1, -1])
            assert.deepEqual(
              await chooseRows(rows, { sort: sign > 0 ? 'key' : 'key:desc' }, definition),
              rows.toSorted((a, b) => sign * (a.key - b.key)),
            )
        },
      ),
      { numRuns: 30 },
    )
  })

  test('an image is named by its repository in any spelling, with its tag or without', () => {
    const [row] = imageRows(IMAGES)
    assert.ok(row)
    for (const name of [
      'busybox',
      'busybox:1.36',
      'library/busybox',
      'docker.io/library/busybox',
      'busy*',
      'b?sybox:*',
    ])
      assert.ok(isNamed(row, name), name)
    for (const name of ['busy', 'busybox:1.37', 'team/busybox', '*'.repeat(40_000)])
      assert.equal(isNamed(row, name), name.startsWith('***'), name.slice(0, 20))
  })
})

describe('a table', () => {
  test('fits a terminal of 80 columns: it leaves out columns, and then cuts the widest', async () => {
    for (const columns of [40, 60, 80, 120]) {
      const lines = (await listed({}, columns)).trimEnd().split('\n')
      assert.ok(
        lines.every((line) => line.length <= columns),
        lines.join('\n'),
      )
      assert.match(lines[0] ?? '', /IMAGE +ID/)
    }
    assert.match(await listed({}, 200), /ORIGIN/)
    assert.match(await listed({ trunc: false }, 40), /ORIGIN/)
  })

  test('a table of narrow columns is left as it is', () => {
    const table = { headings: ['A', 'B'], rows: [['1', '2']] }
    assert.deepEqual(fitTable(table, [undefined, undefined], 3), table)
  })
})
