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

  test('inspect prints one object for one name, and an array or a line for each of several', () => {
    ok(world.loam('provision', '--id', 'two', 'one:1'))
    const inspect = (...args: readonly string[]) => world.loam('inspect', ...args)
    const format = ['--format', '{{.Id}}']
    const [id, other] = ['one:1', 'two:1'].map((name) => ok(inspect(...format, name)).stdout)
    assert.equal(JSON.parse(ok(inspect('one:1')).stdout).kind, 'image')
    const both = JSON.parse(ok(inspect('one:1', 'two')).stdout) as { kind: string }[]
    assert.deepEqual(
      both.map(({ kind }) => kind),
      ['image', 'container'],
    )
    const partly = inspect(...format, 'one:1', 'nosuch:1', 'two:1')
    assert.deepEqual([partly.status, partly.stdout], [1, `${id}${other}`])
    assert.match(partly.stderr, /nosuch:1: no such image/)
    assert.deepEqual([inspect('nosuch:1').status, inspect('nosuch:1').stdout], [1, ''])
    assert.equal(JSON.parse(ok(inspect('--type', 'container', 'two')).stdout).kind, 'container')
    assert.equal(world.failure('inspect', '--type', 'container', 'one:1').code, 'CONTAINER_NOT_FOUND')
    assert.equal(world.failure('inspect', '--type', 'image', 'nosuch').code, 'IMAGE_NOT_FOUND')
    ok(world.loam('destroy', 'two'))
  })

  test('-f and -n of docker: rmi forgives what is not there, rm and prune take them, ps shows the last ones', () => {
    ok(world.loam('tag', 'one:1', 'extra.lan/one:1'))
    const removed = world.loam('rmi', '-f', 'nosuch:1', 'extra.lan/one:1')
    assert.deepEqual([removed.status, removed.stdout], [0, 'extra.lan/one:1\n'])
    assert.match(removed.stderr, /remove nosuch:1: no such image/)
    for (const id of ['a', 'b', 'c']) ok(world.loam('provision', '--id', id, 'one:1'))
    const { digest } = world.json('inspect', 'one:1').image
    assert.equal(world.failure('rmi', '-f', digest).code, 'IMAGE_IN_USE')
    assert.equal(ok(world.loam('ps', '-q', '-n', '2')).stdout, 'c\nb\n')
    assert.equal(ok(world.loam('ps', '-q', '--last', '1')).stdout, ok(world.loam('ps', '-q', '-l')).stdout)
    assert.equal(ok(world.loam('rm', '-fv', 'a', 'b', 'c')).stdout, 'a\nb\nc\n')
    ok(world.loam('prune', '-f'))
  })
})
