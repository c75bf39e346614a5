import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from './file-tree.ts'
import { checkXattrs } from './xattr-rules.ts'

const xattr = (name: string, value: Buffer | string = 'x') => ({
  name: Buffer.from(name, 'latin1'),
  value: Buffer.from(value),
})
const keptNames = (mode: number, ...names: readonly string[]) =>
  checkXattrs(
    names.map((name) => xattr(name)),
    mode,
  ).kept.map(({ name }) => name.toString('latin1'))

describe('the xattrs of a file', () => {
  test('xattrs of a file are those of namespaces that Linux has, on types that have them', () => {
    const names = [
      'user.a',
      'trusted.a',
      'security.a',
      'com.apple.x',
      'system.nfs4_acl',
      'btrfs.compression',
      'a',
      '',
    ]
    assert.deepEqual(keptNames(S_IFREG, ...names), ['user.a', 'trusted.a', 'security.a'])
    assert.deepEqual(keptNames(S_IFDIR, ...names), ['user.a', 'trusted.a', 'security.a'])
    assert.deepEqual(keptNames(S_IFLNK, ...names), ['trusted.a', 'security.a'])
    assert.deepEqual(keptNames(S_IFCHR, ...names), ['trusted.a', 'security.a'])
  })

  test('xattrs of a file are not those that overlayfs or Loam would interpret', () => {
    const names = [
      'trusted.overlay.redirect',
      'user.overlay.opaque',
      'trusted.loam.layer',
      'trusted.overlayfs',
      'user.loam',
    ]
    assert.deepEqual(keptNames(S_IFDIR, ...names), ['trusted.overlayfs', 'user.loam'])
  })

  test('xattrs of a file have a name behind the namespace, without NUL and of 255 bytes at most', () => {
    assert.deepEqual(
      keptNames(S_IFREG, 'user.', 'trusted.', 'security.', 'user.a\0b', `user.${'n'.repeat(251)}`),
      [],
    )
    assert.equal(keptNames(S_IFREG, `user.${'n'.repeat(250)}`, 'user.\xff\n').length, 2)
  })

  test('xattrs of a file have values of 65,535 bytes at most', () => {
    const of = (bytes: number) => checkXattrs([xattr('user.a', Buffer.alloc(bytes))], S_IFREG)
    assert.equal(of(65_535).kept.length, 1)
    assert.deepEqual(of(65_536), { kept: [], leftOut: ['user.a'] })
  })

  test('xattrs of a file are as many as a listing and EROFS can hold, whatever their sizes', () => {
    const many = (count: number, bytes: number) =>
      checkXattrs(
        Array.from({ length: count }, (_none, index) => xattr(`user.${index}`, Buffer.alloc(bytes))),
        S_IFREG,
      )
    assert.equal(many(300, 600).leftOut.length, 0)
    assert.equal(many(5000, 0).leftOut.length, 0)
    const listed = many(10_000, 0)
    assert.ok(listed.kept.reduce((sum, { name }) => sum + name.length + 1, 0) <= 65_536)
    assert.equal(listed.kept.length + listed.leftOut.length, 10_000)
    const { kept } = many(300, 60_000)
    assert.ok(kept.length >= 240 && kept.length < 255)
  })

  test('capabilities in xattrs are of the versions that Linux sets', () => {
    const of = (hex: string) =>
      checkXattrs([xattr('security.capability', Buffer.from(hex, 'hex'))], S_IFREG).kept.length
    assert.equal(of('0100000200200000000000000000000000000000'), 1)
    assert.equal(of('010000030020000000000000000000000000000000000000'), 1)
    assert.equal(of('010000010020000000000000'), 0)
    assert.equal(of('01000002002000000000000000000000000000'), 0)
    assert.equal(of('0100000300200000000000000000000000000000ffffffff'), 0)
    assert.equal(of(''), 0)
  })

  test('ACLs in xattrs are valid, as the mode beside them makes them', () => {
    const none = 'ffffffff'
    const entry = (tag: string, permissions: number, id = none) => `${tag}0${permissions}00${id}`
    const header = '02000000'
    const full = (mask: number) =>
      header +
      entry('0100', 6) +
      entry('0200', 7, '05000000') +
      entry('0400', 5) +
      entry('1000', mask) +
      entry('2000', 0)
    const of = (hex: string, mode: number, name = 'system.posix_acl_access') =>
      checkXattrs([xattr(name, Buffer.from(hex, 'hex'))], mode).kept.map(({ value }) =>
        value.toString('hex'),
      )[0]
    assert.equal(of(full(7), S_IFREG | 0o670), full(7))
    assert.equal(of(full(7), S_IFREG | 0o640), full(4), 'the bits of the group are the mask')
    assert.equal(
      of(header + entry('0100', 6) + entry('0400', 4) + entry('2000', 0), S_IFREG | 0o640),
      undefined,
    )
    assert.equal(of(full(7), S_IFLNK | 0o777), undefined)
    assert.equal(of(full(7), S_IFREG | 0o670, 'system.posix_acl_default'), undefined)
    assert.equal(of(full(7), S_IFDIR | 0o700, 'system.posix_acl_default'), full(7))
    for (const garbage of ['', '00', header.slice(2), '01000000', `${full(7)}00`, full(7).slice(0, -16)])
      assert.equal(of(garbage, S_IFREG | 0o670), undefined, garbage)
  })
})
