// Every tree that Loam creates, compared with umoci's. Where umoci 0.4.7 differs from the specification, the test says so.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  buildImage,
  buildTar,
  listTree,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { someOf } from '../support/rounds.ts'
import { debianTar, must, sharedImages, World } from '../support/world.ts'

const BACKENDS = ['erofs', 'overlay', 'copy'] as const

function umociTree(world: World, layout: string, tag: string): string[] {
  const bundle = join(world.folder, 'bundle')
  must('umoci', 'unpack', '--image', `${layout}:${tag}`, bundle)
  return listTree(join(bundle, 'rootfs'), { withoutXattrs: /^user\.rootlesscontainers/ })
}

function loamTree(world: World, backend: string, image: string): string[] {
  const { status, stdout, stderr } = world.loam('provision', '--backend', backend, '--id', backend, image)
  assert.equal(status, 0, stderr)
  return listTree(stdout.trim())
}

function compareAll(
  world: World,
  layout: string,
  tag: string,
  adjust: (lines: string[]) => string[] = (lines) => lines,
): void {
  const expected = adjust(umociTree(world, layout, tag))
  assert.ok(expected.length > 1)
  for (const backend of BACKENDS) {
    assert.deepEqual(adjust(loamTree(world, backend, `oci:${layout}:${tag}`)), expected, backend)
  }
}

describe('trees equal umoci unpack', () => {
  test('every backend shows a Debian root of mmdebstrap as umoci unpacks it', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, {
      debian: buildImage({ tars: [readFileSync(debianTar())], compression: 'zstd' }),
    })
    // umoci 0.4.7 knows no zstd, so it gets the same layer in gzip.
    const gzip = join(world.folder, 'gzip')
    writeOciLayout(gzip, { debian: buildImage({ tars: [readFileSync(debianTar())] }) })
    const expected = umociTree(world, gzip, 'debian')
    assert.ok(expected.length > 5000)
    for (const backend of BACKENDS)
      assert.deepEqual(loamTree(world, backend, `oci:${layout}:debian`), expected, backend)
  })

  test('every backend shows the odd image as umoci unpacks it', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    // umoci 0.4.7 gives wh-dir the time of unpacking: it makes the directory for its whiteout (layer-rules: "its time is lost").
    const adjust = (lines: string[]) =>
      lines.map((line) => (line.startsWith('"wh-dir" ') ? line.replace(/ t=\d+/, '') : line))
    writeOciLayout(layout, { odd: buildImage({ tars: [ODD_BASE, ODD_TOP].map(buildTar) }) })
    compareAll(world, layout, 'odd', adjust)
  })

  test('every backend shows layers that do not list the directories of their files as umoci unpacks them', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { odd: buildImage({ tars: [ODD_BASE, ODD_UNLISTED].map(buildTar) }) })
    // By the specification an unlisted directory keeps all its attributes; umoci 0.4.7 changes its time.
    const adjust = (lines: string[]) =>
      lines.map((line) => (line.startsWith('"kept/inner" ') ? line.replace(/ t=\d+/, '') : line))
    compareAll(world, layout, 'odd', adjust)
  })

  const images = sharedImages()
  for (const name of someOf(['busybox-glibc-amd64', 'busybox-musl-amd64', 'busybox-glibc-arm64v8'], 1)) {
    test(`every backend shows ${name} as umoci unpacks it`, { skip: images === undefined }, () => {
      using world = new World()
      const source = join(images ?? '', name)
      const layout = join(world.folder, 'layout')
      must('skopeo', 'copy', '-q', `oci:${source}`, `oci:${layout}:image`)
      compareAll(world, layout, 'image')
    })
  }

  test('every backend shows Alpine as umoci unpacks it', {
    skip: images === undefined,
  }, () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    mkdirSync(layout)
    const tar = gunzipSync(readFileSync(join(images ?? '', 'alpine-minirootfs-3.20.3-x86_64.tar.gz')))
    writeOciLayout(layout, { alpine: buildImage({ tars: [tar] }) })
    compareAll(world, layout, 'alpine')
  })
})
