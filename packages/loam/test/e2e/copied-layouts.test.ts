// Copies into a layout that other programs use, too: skopeo and umoci are asked what it has.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, beforeEach, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { must, ok, World } from '../support/world.ts'

const REF_NAME = 'org.opencontainers.image.ref.name'
const FULL_NAME = 'io.containerd.image.name'

interface Entry {
  readonly digest: string
  readonly annotations?: Readonly<Record<string, string>>
}

const IMAGES = ['first', 'second', 'third'] as const
const imageOf = (data: string) => buildImage({ tars: [buildTar([{ name: 'file', data }])] })
const digests = { first: digest('first'), second: digest('second'), third: digest('third') }

function digest(name: string): string {
  return imageOf(name).manifest.digest
}

let world: World
let layouts = 0
let layout = ''
before(() => {
  world = new World()
  for (const name of IMAGES) writeOciLayout(world.path(name), { x: imageOf(name) })
})
beforeEach(() => {
  layout = world.path(`layout${(layouts += 1)}`)
})
after(() => {
  world[Symbol.dispose]()
})

/** Copies an image into the layout, under a name or without. */
function copy(image: (typeof IMAGES)[number], name = ''): void {
  ok(world.loam('copy', `oci:${world.path(image)}:x`, `oci:${layout}${name === '' ? '' : `:${name}`}`))
}

const readIndex = (): Record<string, unknown> & { readonly manifests: readonly Entry[] } =>
  JSON.parse(readFileSync(`${layout}/index.json`, 'utf8'))
const names = () =>
  readIndex().manifests.map(({ digest: own, annotations }) => [
    own,
    annotations?.[FULL_NAME],
    annotations?.[REF_NAME],
  ])
const bySkopeo = (tag: string) =>
  digestOf(Buffer.from(must('skopeo', 'inspect', '--raw', `oci:${layout}:${tag}`)))

test('a tag means the image that was copied under it last, and an image that had it keeps its whole name', () => {
  copy('first', 'docker.io/library/a:1')
  assert.equal(bySkopeo('1'), digests.first)
  copy('second', '1')
  assert.equal(bySkopeo('1'), digests.second)
  assert.deepEqual(names(), [
    [digests.first, 'docker.io/library/a:1', undefined],
    [digests.second, undefined, '1'],
  ])
  // umoci refuses a tag that two entries have.
  assert.match(must('umoci', 'stat', '--image', `${layout}:1`, '--json'), /history/)
  copy('third', '1')
  assert.equal(bySkopeo('1'), digests.third)
  assert.equal(readIndex().manifests.length, 2)
})

test('a whole name leaves a tag to the image that has it', () => {
  copy('first', '1')
  copy('second', 'docker.io/library/q:1')
  assert.equal(bySkopeo('1'), digests.first)
  copy('third', 'docker.io/library/q:1')
  assert.deepEqual(names(), [
    [digests.first, undefined, '1'],
    [digests.third, 'docker.io/library/q:1', undefined],
  ])
})

test('an image that is copied again, with a name or without, changes nothing in a layout', () => {
  const copyAll = () => {
    copy('first')
    copy('second', 'latest')
    copy('third', 'x.test/y:2')
  }
  copyAll()
  const written = readFileSync(`${layout}/index.json`, 'utf8')
  copyAll()
  copy('third', '2')
  assert.equal(readFileSync(`${layout}/index.json`, 'utf8'), written)
})

test('entries of one name for several platforms give way to one image', () => {
  copy('first', '1')
  copy('second', '2')
  const index = readIndex()
  const manifests = index.manifests.map((entry) => ({ ...entry, annotations: { [REF_NAME]: '1' } }))
  writeFileSync(`${layout}/index.json`, JSON.stringify({ ...index, manifests }))
  copy('second', '1')
  assert.deepEqual(names(), [[digests.second, undefined, '1']])
})

test('what others wrote into the index of a layout stays, and is no name of the copied image', () => {
  copy('first', 'docker.io/library/a:1')
  copy('second', '2')
  const index = readIndex()
  const platform = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.1', 'os.features': ['win32k'] }
  const entries = index.manifests.map(({ annotations, ...entry }) => ({
    ...entry,
    platform,
    urls: ['https://x.test/manifest'],
    data: 'e30=',
    'org.example.field': { of: 'others' },
    // Go's programs read the key whatever its case.
    Annotations: { ...annotations, 'org.example.note': 'kept' },
  }))
  const foreign = {
    digest: `sha256:${'0'.repeat(64)}`,
    size: 2,
    mediaType: 'application/x-other',
    data: 'e30=',
  }
  const { manifests: _manifests, ...rest } = index
  const written = { ...rest, annotations: { of: 'others' }, Manifests: [foreign, ...entries], further: [1] }
  writeFileSync(`${layout}/index.json`, JSON.stringify(written))
  copy('third', '1')
  const [first, second] = entries
  const { [REF_NAME]: _tag, ...kept } = { [REF_NAME]: '', ...first?.Annotations }
  const { Manifests: listed, ...others } = readIndex() as unknown as typeof written
  assert.deepEqual(listed.slice(0, 3), [foreign, { ...first, Annotations: kept }, second])
  assert.deepEqual(others, { ...rest, annotations: { of: 'others' }, further: [1] })
  assert.equal(listed.length, 4)
  assert.equal(bySkopeo('1'), digests.third)
  assert.equal(bySkopeo('2'), digests.second)
})
