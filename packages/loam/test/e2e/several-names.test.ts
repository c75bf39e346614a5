// Commands that take several names, and commands that remove what a name means: that, all of it, and nothing else.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { ok, World } from '../support/world.ts'

const imageOf = (data: string) => buildImage({ tars: [buildTar([{ name: 'file', data }])] })

describe('the mounts of loam mount', () => {
  let world: World
  const mount = (name: string) => ok(world.loam('mount', name)).stdout.trim()
  const umount = (...names: readonly string[]) => ok(world.loam('umount', ...names)).stdout
  const listed = () => world.json('mount').map(({ reference }) => reference)

  before(() => {
    world = new World()
    const layout = world.path('layout')
    writeOciLayout(layout, { one: imageOf('one'), two: imageOf('two') })
    ok(world.loam('put', `oci:${layout}:one`, 'docker.io/library/tool:latest'))
    ok(world.loam('put', `oci:${layout}:two`, 'other.lan/team/tool:9'))
    ok(world.loam('tag', 'tool', 'registry.lan/second:1'))
  })
  after(() => {
    world.loam('umount', '--all')
    world[Symbol.dispose]()
  })

  test('umount unmounts the image that its name means, and no image of another registry or tag', () => {
    const [own, other] = [mount('tool'), mount('other.lan/team/tool:9')]
    assert.equal(umount('tool'), `${own}\n`)
    assert.deepEqual(listed(), ['other.lan/team/tool:9'])
    assert.equal(world.failure('umount', 'tool').code, 'PATH_NOT_FOUND')
    assert.equal(umount(other), `${other}\n`)
  })

  test('umount takes every name that mount takes for the image, and its digest', () => {
    const digest = world.json('inspect', 'tool').image.digest
    for (const name of [
      'tool',
      'registry.lan/second:1',
      'docker.io/library/tool',
      digest,
      digest.slice(7, 19),
    ]) {
      const path = mount('tool')
      assert.equal(mount(name), path, name)
      assert.equal(umount(name, name), `${path}\n`, name)
    }
  })

  test('umount finds a mount by the name that it was made by, also if that is of another image by now', () => {
    const path = mount('registry.lan/second:1')
    ok(world.loam('untag', 'registry.lan/second:1'))
    ok(world.loam('tag', 'other.lan/team/tool:9', 'registry.lan/second:1'))
    assert.equal(umount('registry.lan/second:1'), `${path}\n`)
    assert.deepEqual(listed(), [])
    ok(world.loam('tag', '--replace', 'tool', 'registry.lan/second:1'))
  })
})

describe('a command with several names', () => {
  let world: World
  before(() => {
    world = new World()
    const layout = world.path('layout')
    writeOciLayout(layout, { one: imageOf('one'), two: imageOf('two') })
    ok(world.loam('put', `oci:${layout}:one`, 'one:1'))
    ok(world.loam('put', `oci:${layout}:two`, 'two:1'))
  })
  after(() => {
    world.loam('umount', '--all')
    world[Symbol.dispose]()
  })

  test('rmi, umount and snapshot usage go on after a failure, and print what they did', () => {
    for (const tag of ['1', '2']) ok(world.loam('tag', 'one:1', `extra.lan/one:${tag}`))
    const paths = ['one:1', 'two:1'].map((name) => ok(world.loam('mount', name)).stdout)
    const unmounted = world.loam('umount', 'one:1', 'nosuch:1', 'two:1')
    const removed = world.loam('rmi', 'extra.lan/one:1', 'nosuch:1', 'extra.lan/one:2', 'nosuch:2')
    const measured = world.loam('snapshot', 'usage', 'nosuch', 'nosuch:2')
    assert.deepEqual([unmounted.status, unmounted.stdout], [1, paths.join('')])
    assert.deepEqual([removed.status, removed.stdout], [1, 'extra.lan/one:1\nextra.lan/one:2\n'])
    assert.match(removed.stderr, /remove nosuch:1: no such image; remove nosuch:2: no such image/)
    assert.deepEqual([measured.status, measured.stdout], [1, ''])
    assert.match(measured.stderr, /nosuch\b[^;]*; .*nosuch:2/)
    assert.deepEqual(world.json('mount'), [])
  })
})
