// Images and root filesystems as files for other tools: disks, tars, file systems, layouts.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { mountErofs, unmountAll } from '../../src/linux/index.ts'
import {
  type BuildEntry,
  buildImage,
  buildTar,
  listTree,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { fsckErofs } from '../support/fsck-erofs.ts'
import { must, World } from '../support/world.ts'

const PLAIN: readonly BuildEntry[] = [
  { name: './', mode: 0o750, uid: 7, gid: 8, mtimeSeconds: 1_700_000_000 },
  { name: 'bin/', mtimeSeconds: 1_700_000_000 },
  { name: 'bin/su', mode: 0o4755, data: 'setuid', mtimeSeconds: 1_700_000_000, xattrs: { 'user.a': 'b' } },
  { name: 'bin/hard', type: 'hardlink', linkName: 'bin/su' },
  { name: 'link', type: 'symlink', linkName: 'bin/su', mtimeSeconds: 1_700_000_000 },
  {
    name: 'null',
    type: 'character',
    deviceMajor: 1,
    deviceMinor: 3,
    mode: 0o666,
    mtimeSeconds: 1_700_000_000,
  },
  { name: 'large', data: Buffer.alloc(300_000, 'x'), uid: 70_000, mtimeSeconds: 1_700_000_000 },
]

/** Attributes that mke2fs alone does not keep, or refuses. */
const WIDE: readonly BuildEntry[] = [
  { name: './', mtimeSeconds: 2 ** 33, mtimeNanoseconds: 5 },
  { name: 'lost+found/', mode: 0o751, mtimeSeconds: 1_600_000_000 },
  { name: 'lost+found/kept', data: 'kept' },
  { name: 'far', mtimeSeconds: 2 ** 32 + 7, mtimeNanoseconds: 999_999_999, data: 'x' },
  { name: 'old', mtimeSeconds: -1, mtimeNanoseconds: 1, data: 'x' },
  { name: 'owned', uid: 4_294_967_294, gid: 70_000, data: 'x' },
  { name: 'long', type: 'symlink', linkName: 'l/'.repeat(2000) },
  { name: 'link', type: 'symlink', linkName: 'far', mtimeNanoseconds: 3 },
  { name: 'same', type: 'hardlink', linkName: 'link' },
  { name: 'many', data: '', xattrs: { 'user.a': 'x'.repeat(1200), 'trusted.b': 'y'.repeat(1200) } },
  { name: 'pipe', type: 'fifo', mode: 0o600 },
  { name: 'disk', type: 'block', deviceMajor: 4095, deviceMinor: 1_048_575 },
  ...Array.from({ length: 3000 }, (_value, index) => ({
    name: `small/${'n'.repeat(100)}${index}`,
    data: 'x',
  })),
]

describe('export', () => {
  const world = new World()
  const layout = join(world.folder, 'layout')
  const image = buildImage({
    tars: [ODD_BASE, ODD_TOP, ODD_UNLISTED].map(buildTar),
    config: { Cmd: ['/bin/su'], Env: ['A=b'] },
  })
  writeOciLayout(layout, {
    odd: image,
    plain: buildImage({ tars: [buildTar(PLAIN)] }),
    // A tar may have any bytes behind its end.
    uneven: buildImage({
      tars: [Buffer.concat([buildTar(PLAIN), Buffer.alloc(7, 'x')]), buildTar([{ name: 'top', data: 'x' }])],
    }),
    wide: buildImage({ tars: [buildTar(WIDE)] }),
    large: buildImage({ tars: [buildTar([{ name: 'large', data: Buffer.alloc(8 << 20, 'x') }])] }),
  })
  after(() => {
    world[Symbol.dispose]()
  })
  const out = (name: string) => join(world.folder, name)
  const ok = (...args: readonly string[]) => {
    const { status, stdout, stderr } = world.loam('--quiet', ...args)
    assert.equal(status, 0, stderr)
    return stdout.trim()
  }
  const provision = (id: string, name: string) =>
    ok('provision', '--id', id, '--read-only', `oci:${layout}:${name}`)
  const listDisk = (path: string) => {
    const target = out('mount')
    mkdirSync(target, { recursive: true })
    mountErofs({ image: path, devices: [], target })
    try {
      return listTree(target)
    } finally {
      unmountAll(target)
    }
  }

  test('an exported EROFS disk shows the same as the root filesystem of the image', () => {
    const expected = listTree(provision('odd', 'odd'))
    ok('export', '--format', 'erofs', `oci:${layout}:odd`, out('odd.erofs'))
    assert.deepEqual(listDisk(out('odd.erofs')), expected)
    fsckErofs(out('odd.erofs'), [])
    ok('export', '--format', 'erofs', 'odd', out('rootfs.erofs'))
    assert.deepEqual(listDisk(out('rootfs.erofs')), expected)
  })

  test('an exported tar is the same to the byte each time, and unpacks to the same tree', () => {
    const expected = listTree(provision('tar', 'odd'))
    const digests = ['first', 'second'].map((name) => {
      ok('export', '--format', 'tar', `oci:${layout}:odd`, out(`${name}.tar`))
      return createHash('sha256')
        .update(readFileSync(out(`${name}.tar`)))
        .digest('hex')
    })
    assert.equal(digests[0], digests[1])
    const streamed = spawnSync(
      process.execPath,
      world.args('--quiet', 'export', '--format', 'tar', `oci:${layout}:odd`, '-'),
      { maxBuffer: 1 << 28 },
    )
    assert.equal(createHash('sha256').update(streamed.stdout).digest('hex'), digests[0])
    ok('export', '--format', 'tar', 'tar', out('rootfs.tar'))
    for (const name of ['first', 'rootfs']) {
      const target = out(`unpacked-${name}`)
      mkdirSync(target)
      must(
        'tar',
        '-C',
        target,
        '--xattrs',
        '--xattrs-include=*',
        '--numeric-owner',
        '-xpf',
        out(`${name}.tar`),
      )
      assert.deepEqual(listTree(target), expected)
    }
  })

  const listExt4 = (path: string) => {
    must('e2fsck', '-fn', path)
    const target = out('ext4')
    mkdirSync(target, { recursive: true })
    must('mount', '-o', 'loop,ro', path, target)
    try {
      return listTree(target).filter((line) => !line.startsWith('"lost+found"'))
    } finally {
      must('umount', target)
    }
  }

  test('an exported ext4 file system has the requested size, and the same tree', () => {
    ok('export', '--format', 'ext4', '--size', '64M', `oci:${layout}:plain`, out('plain.ext4'))
    assert.equal(statSync(out('plain.ext4')).size, 64 << 20)
    assert.deepEqual(listExt4(out('plain.ext4')), listTree(provision('ext4', 'plain')))
    ok('export', '--format', 'ext4', 'ext4', out('fitting.ext4'))
    assert.deepEqual(listExt4(out('fitting.ext4')), listTree(provision('ext4-too', 'plain')))
    for (const size of ['16K', '256K', '6M']) {
      const args = ['--format', 'ext4', '--size', size, `oci:${layout}:large`, out('small.ext4')]
      const small = world.loam('--json', 'export', ...args)
      assert.equal(small.status, 1)
      assert.equal(JSON.parse(small.stderr).error.code, 'NO_SPACE')
      assert.equal(existsSync(out('small.ext4')), false)
    }
  })

  test('an exported ext4 file system keeps nanoseconds, far times, long links, many xattrs, links between symlinks, and a lost+found', () => {
    for (const name of ['odd', 'wide']) {
      ok('export', '--format', 'ext4', `oci:${layout}:${name}`, out(`${name}.ext4`))
      const copy = listTree(
        ok('provision', '--backend', 'copy', '--id', `copy-${name}`, `oci:${layout}:${name}`),
      )
      assert.deepEqual(
        listExt4(out(`${name}.ext4`)),
        copy.filter((line) => !line.startsWith('"lost+found"')),
      )
    }
  })

  test('an ext4 file system without loop devices has whole seconds, which is reported, and an invalid time is refused', () => {
    // A mount namespace of its own has none.
    const withoutLoops = (...args: readonly string[]) =>
      spawnSync(
        'unshare',
        [
          ...['--mount', 'sh', '-c', 'mount --bind /dev/null /dev/loop-control && exec "$@"', 'sh'],
          ...[process.execPath, ...world.args('export', '--format', 'ext4', ...args)],
        ],
        { encoding: 'utf8' },
      )
    const made = withoutLoops(`oci:${layout}:plain`, out('copied.ext4'))
    assert.equal(made.status, 0, made.stderr)
    assert.match(made.stderr, /note: .*rounded to seconds/)
    // mke2fs makes lost+found last, which gives the root its time.
    const withoutRoot = (lines: readonly string[]) => lines.slice(1)
    assert.deepEqual(
      withoutRoot(listExt4(out('copied.ext4'))),
      withoutRoot(listTree(provision('loops', 'plain'))),
    )
    const refused = withoutLoops(`oci:${layout}:wide`, out('refused.ext4'))
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, /before 1901 or after 2038/)
    assert.equal(existsSync(out('refused.ext4')), false)
  })

  test('the files that a disk is made of, one after the other, have the tree of a container', () => {
    for (const name of ['odd', 'uneven']) {
      const { parts, sizeBytes } = JSON.parse(ok('disks', '--format', 'json', `oci:${layout}:${name}`))
      const flat = Buffer.concat(
        parts.map((part: { path: string; sizeBytes: number }) =>
          readFileSync(part.path).subarray(0, part.sizeBytes),
        ),
      )
      assert.equal(flat.length, sizeBytes)
      writeFileSync(out(`${name}.flat`), flat)
      assert.deepEqual(listDisk(out(`${name}.flat`)), listTree(provision(`beside-${name}`, name)))
    }
  })

  test('a VMDK and a table of the device mapper name the files of a disk, also of that of a container', () => {
    ok('provision', '--id', 'machine', `oci:${layout}:plain`)
    const { parts } = JSON.parse(ok('disks', '--json', 'machine'))
    const vmdk = ok('disks', 'machine')
    const table = ok('disks', '--format', 'dm', 'machine')
    assert.equal(parts.length, 2)
    for (const { path, sizeBytes, position } of parts) {
      assert.ok(vmdk.includes(`RW ${sizeBytes / 512} FLAT "${path}" 0`), vmdk)
      assert.ok(table.includes(`${position / 512} ${sizeBytes / 512} linear ${path} 0`), table)
    }
    writeFileSync(join(ok('mount', 'machine'), 'own'), 'written')
    assert.match(world.loam('disks', 'machine').stderr, /without what the container has changed/)
  })

  test('an OCI layout is one tar on standard output, of an image and of a container', () => {
    ok('provision', '--id', 'streamed', `oci:${layout}:plain`)
    for (const name of [`oci:${layout}:plain`, 'streamed']) {
      const file = out('streamed.tar')
      const words = world.args('--quiet', 'export', '--format', 'oci', name, '-')
      writeFileSync(file, spawnSync(process.execPath, words, { maxBuffer: 1 << 28 }).stdout)
      must('skopeo', 'copy', `oci-archive:${file}`, `oci:${out('checked')}:streamed`)
    }
  })

  test('an exported OCI layout is read by skopeo and umoci, and is the same image', () => {
    ok('export', '--format', 'oci', `oci:${layout}:odd`, out('layout-of-image'))
    const { manifests } = JSON.parse(readFileSync(out('layout-of-image/index.json'), 'utf8'))
    const manifest = JSON.parse(must('skopeo', 'inspect', '--raw', `oci:${out('layout-of-image')}`))
    assert.equal(manifests.length, 1)
    // The config, by which engines name an image, is the same to the byte.
    assert.equal(manifest.config.digest, image.config.digest)
    must('skopeo', 'copy', `oci:${out('layout-of-image')}`, `oci:${out('checked')}:odd`)
    ok('provision', '--id', 'again', `oci:${out('layout-of-image')}`)
    assert.deepEqual(
      listTree(ok('provision', '--id', 'again-too', '--read-only', `oci:${out('layout-of-image')}`)),
      listTree(provision('same', 'odd')),
    )
  })

  test('an export of a container has the data written to it', () => {
    const path = ok('provision', '--id', 'written', `oci:${layout}:plain`)
    writeFileSync(join(path, 'added'), 'by the container')
    rmSync(join(path, 'large'))
    for (const format of ['erofs', 'tar', 'ext4', 'oci'])
      ok('export', '--format', format, 'written', out(`written.${format}`))
    const names = (lines: readonly string[]) => lines.map((line) => line.split(' ')[0])
    assert.deepEqual(names(listDisk(out('written.erofs'))), names(listTree(path)))
    const again = ok('provision', '--id', 'copy', `oci:${out('written.oci')}`)
    assert.equal(readFileSync(join(again, 'added'), 'utf8'), 'by the container')
    assert.equal(existsSync(join(again, 'large')), false)
  })

  test('an export never replaces a file, and a failed one leaves nothing', () => {
    const codeOf = (...args: readonly string[]) => {
      const { status, stderr } = world.loam('--json', 'export', ...args)
      return [status, JSON.parse(stderr).error.code]
    }
    const source = `oci:${layout}:plain`
    writeFileSync(out('mine'), 'mine')
    assert.deepEqual(codeOf('--format', 'tar', source, out('mine')), [1, 'OUTPUT_EXISTS'])
    assert.equal(readFileSync(out('mine'), 'utf8'), 'mine')
    ok('export', '--format', 'tar', '--force', source, out('mine'))
    mkdirSync(out('folder/inside'), { recursive: true })
    for (const format of ['tar', 'oci']) {
      assert.deepEqual(codeOf('--format', format, '--force', source, out('folder')), [1, 'OUTPUT_EXISTS'])
    }
    assert.equal(existsSync(out('folder/inside')), true)
    assert.deepEqual(codeOf('--format', 'erofs', '--size', '1G', source, out('x')), [2, 'USAGE'])
    assert.deepEqual(codeOf('--format', 'erofs', source, out('no/such/folder')), [2, 'USAGE'])
    assert.equal(world.loam('export', source, out('x')).status, 2)
    assert.equal(world.loam('export', '--format', 'ext4', '--size', 'huge', source, out('x')).status, 2)
    mkdirSync(out('full'))
    must('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', out('full'))
    try {
      assert.deepEqual(codeOf('--format', 'erofs', source, out('full/x')), [1, 'NO_SPACE'])
      assert.deepEqual(readdirSync(out('full')), [])
    } finally {
      must('umount', out('full'))
    }
    assert.deepEqual(
      readdirSync(world.folder).filter((name) => name.includes('.loam-')),
      [],
    )
    assert.deepEqual(world.leftovers(), [])
  })
})
