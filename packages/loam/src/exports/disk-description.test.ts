import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseChainId, parseDiffId } from '../image/index.ts'
import { type Disk, formatDeviceMapperTable, formatVmdk } from './disk-description.ts'

const chainId = parseChainId(`sha256:${'c0ffee00'.repeat(8)}`, 'test')
const diffId = parseDiffId(`sha256:${'a'.repeat(64)}`)

function diskOf(path: string, layerBytes = 1024): Disk {
  return {
    chainId,
    sizeBytes: 4096 + layerBytes,
    parts: [
      { diffId: undefined, path: '/store/merged.erofs', sizeBytes: 4096, position: 0 },
      { diffId, path, sizeBytes: layerBytes, position: 4096 },
    ],
  }
}

function extents(disk: Disk): string[] {
  return formatVmdk(disk)
    .split('\n')
    .filter((line) => line.startsWith('RW'))
}

describe('descriptions of disks', () => {
  test('a VMDK names the files one after the other, in sectors', () => {
    assert.deepEqual(extents(diskOf('/store/layer.tar')), [
      'RW 8 FLAT "/store/merged.erofs" 0',
      'RW 2 FLAT "/store/layer.tar" 0',
    ])
  })

  test('a VMDK of the same layers has the same content ID', () => {
    assert.match(formatVmdk(diskOf('/store/layer.tar')), /^CID=c0ffee00$/m)
  })

  test('a file of more than 2 GiB is several extents of a VMDK', () => {
    assert.deepEqual(extents(diskOf('/l', 2 ** 31 + 512)).slice(1), [
      'RW 4194304 FLAT "/l" 0',
      'RW 1 FLAT "/l" 4194304',
    ])
  })

  test('a table of the device mapper has a line for each file', () => {
    assert.equal(
      formatDeviceMapperTable(diskOf('/store/layer.tar')),
      '0 8 linear /store/merged.erofs 0\n8 2 linear /store/layer.tar 0\n',
    )
  })

  test('a path that a description cannot hold is refused', () => {
    for (const path of ['/a"b', '/a\nb', `/${'x'.repeat(600)}`])
      assert.throws(
        () => formatVmdk(diskOf(path)),
        (error) => isLoamError(error, 'USAGE'),
      )
    assert.throws(
      () => formatDeviceMapperTable(diskOf('/a b')),
      (error) => isLoamError(error, 'USAGE'),
    )
  })
})
