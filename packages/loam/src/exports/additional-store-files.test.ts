import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { type DiffId, digestOf } from '../image/index.ts'
import { type AdditionalImageFiles, AdditionalStoreFiles } from './additional-store-files.ts'

/** An image of one layer. */
function image(name: string): AdditionalImageFiles {
  const [manifest, config] = [Buffer.from(`manifest ${name}`), Buffer.from(`config ${name}`)]
  const diffId = digestOf(Buffer.from(name)) as DiffId
  const layer = { diffId, tarBytes: 1, blobDigest: diffId, blobBytes: 1, mountPath: `/stacks/${name}` }
  const digests = { digest: digestOf(manifest), configDigest: digestOf(config) }
  return { names: [name], ...digests, manifest, config, createdAtMs: 0, layers: [layer] }
}

const hexOf = (digest: string) => digest.replace('sha256:', '')

describe('the files of an additional image store', () => {
  let folder: string
  let directory: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-additional-'))
    directory = join(folder, 'images')
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  const write = (...images: readonly AdditionalImageFiles[]) => {
    using files = AdditionalStoreFiles.open(directory)
    files.write(images)
  }
  const remove = () => {
    using files = AdditionalStoreFiles.open(directory)
    files.remove()
  }
  const ids = (list: string) =>
    (JSON.parse(readFileSync(join(directory, list), 'utf8')) as { id: string }[]).map(({ id }) => id)
  const layerIds = () => ids('overlay-layers/layers.json')
  const imageIds = () => ids('overlay-images/images.json')
  const idOf = ({ layers }: AdditionalImageFiles) => hexOf(String(layers[0]?.diffId))
  /** A directory whose file nothing here may touch. */
  const makeVictim = () => {
    const victim = join(folder, 'victim')
    mkdirSync(join(victim, 'data'), { recursive: true })
    writeFileSync(join(victim, 'data', 'file'), 'precious')
    return victim
  }
  const isUntouched = (victim: string) => {
    assert.deepEqual(readdirSync(victim), ['data'])
    assert.equal(readFileSync(join(victim, 'data', 'file'), 'utf8'), 'precious')
  }

  test('no symlink is followed, in the place of a folder, of a layer or of a file', () => {
    const victim = makeVictim()
    write(image('one'))
    for (const name of ['overlay', 'overlay-images', 'overlay-layers', `overlay/${idOf(image('one'))}`]) {
      renameSync(join(directory, name), join(folder, 'aside'))
      symlinkSync(victim, join(directory, name))
      assert.throws(
        () => {
          write(image('one'), image('two'))
        },
        (error) => isLoamError(error, 'STORE_UNSAFE'),
        name,
      )
      assert.throws(remove, (error) => isLoamError(error, 'STORE_UNSAFE'))
      rmSync(join(directory, name))
      renameSync(join(folder, 'aside'), join(directory, name))
    }
    symlinkSync(join(victim, 'data', 'file'), join(directory, 'overlay-images', 'images.json.new'))
    write(image('two'))
    rmSync(join(directory, 'overlay-images', 'images.lock'))
    symlinkSync(join(victim, 'data', 'file'), join(directory, 'overlay-images', 'images.lock'))
    assert.throws(() => {
      write(image('one'))
    }, /ELOOP/)
    isUntouched(victim)
  })

  test('a directory that others may change is refused, and so is one below such a directory', () => {
    write(image('one'))
    const isRefused = (path: string, mode: number) => {
      chmodSync(path, mode)
      assert.throws(
        () => {
          write(image('two'))
        },
        (error) => isLoamError(error, 'STORE_UNSAFE') && error.hint !== undefined,
      )
      chmodSync(path, 0o755)
    }
    isRefused(directory, 0o775)
    isRefused(directory, 0o1777)
    isRefused(folder, 0o757)
    isRefused(join(directory, 'overlay'), 0o777)
    assert.deepEqual(imageIds(), [hexOf(image('one').configDigest)])
    chmodSync(folder, 0o1777)
    write(image('two'))
  })

  test('a store that Loam has not made is refused, also one that is empty', () => {
    for (const name of ['overlay', 'overlay-images', 'overlay-layers'])
      mkdirSync(join(directory, name), { recursive: true })
    writeFileSync(join(directory, 'overlay-images', 'images.json'), '[]')
    writeFileSync(join(directory, 'overlay-layers', 'layers.json'), '[]')
    for (const act of [write, remove]) assert.throws(act, (error) => isLoamError(error, 'OUTPUT_EXISTS'))
    rmSync(directory, { recursive: true })
    mkdirSync(directory)
    // A disk that is not mounted looks like this.
    assert.throws(
      () => AdditionalStoreFiles.open(directory, false),
      (error) => isLoamError(error, 'OUTPUT_EXISTS'),
    )
    write()
  })

  test('layers of another program keep the store from being written and removed', () => {
    write(image('one'))
    const other = join(directory, 'overlay', 'ab'.repeat(32))
    mkdirSync(join(other, 'diff'), { recursive: true })
    writeFileSync(join(other, 'diff', 'file'), 'precious')
    for (const act of [() => write(image('two')), remove])
      assert.throws(act, (error) => isLoamError(error, 'OUTPUT_EXISTS'))
    assert.ok(existsSync(join(other, 'diff', 'file')))
    assert.deepEqual(layerIds(), [idOf(image('one'))])
  })

  test('only names that Loam writes are removed, and the directory with the last of them', () => {
    write(image('one'))
    const foreign = [
      'overlay/staging/file',
      `overlay/${idOf(image('one'))}/work/file`,
      `overlay-images/${hexOf(image('one').configDigest)}/file`,
      'overlay-layers/volatile-layers.json',
      'libpod',
    ].map((name) => join(directory, name))
    mkdirSync(join(directory, 'overlay', 'staging'))
    for (const path of foreign) writeFileSync(path, '')
    write()
    remove()
    for (const path of foreign) assert.ok(existsSync(path), path)
    rmSync(directory, { recursive: true })
    write(image('one'))
    remove()
    assert.ok(!existsSync(directory))
  })

  test('at no time an image is listed whose layers are not, also while it is replaced', () => {
    const [one, two] = [image('one'), image('two')]
    write(one)
    const isWhole = (...listed: readonly AdditionalImageFiles[]) => {
      assert.deepEqual(layerIds().toSorted(), [one, two].map(idOf).toSorted())
      assert.deepEqual(
        imageIds(),
        listed.map(({ configDigest }) => hexOf(configDigest)),
      )
    }
    const obstacle = join(directory, 'overlay-images', 'images.json.new')
    mkdirSync(obstacle)
    assert.throws(() => {
      write(two)
    })
    isWhole(one)
    rmSync(obstacle, { recursive: true })
    const document = join(directory, 'overlay-images', hexOf(one.configDigest), 'manifest')
    rmSync(document)
    mkdirSync(document)
    assert.throws(() => {
      write(two)
    })
    isWhole(two)
    rmSync(document, { recursive: true })
    write(two)
    assert.deepEqual(layerIds(), [idOf(two)])
    assert.deepEqual(readdirSync(join(directory, 'overlay')).toSorted(), [idOf(two), 'l'].toSorted())
    assert.equal(readdirSync(join(directory, 'overlay', 'l')).length, 1)
  })
})
