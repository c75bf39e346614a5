/*
 * An image as one disk that is made of files of the store: the merged image, and behind it the tars of its layers, each at the place that the image names for
 * it. The descriptions below tell others how to put the files together; nothing is copied.
 */
import { LoamError } from '../errors/index.ts'
import type { ChainId, DiffId } from '../image/index.ts'

/** A file of the store that is a part of a disk. */
export interface DiskPart {
  /** The digest of the layer's tar; undefined for the merged image, which has names and attributes. */
  readonly diffId: DiffId | undefined
  /** Absolute path. */
  readonly path: string
  /** Bytes from the start of the file that belong to the disk: a multiple of 512. The rest of the file, if there is one, is not part of it. */
  readonly sizeBytes: number
  /** Where they begin in the disk, in bytes. */
  readonly position: number
}

/** A disk as its parts, which follow each other without gaps. */
export interface Disk {
  /** Names the stack of layers. */
  readonly chainId: ChainId
  /** Size of the disk. */
  readonly sizeBytes: number
  /** The merged image first, then the tars in the order of the image's devices. A layer that shows no data has no part. */
  readonly parts: readonly DiskPart[]
}

const SECTOR_BYTES = 512
/** Extents of a disk of the type twoGbMaxExtentFlat have at most so many sectors. */
const MAX_EXTENT_SECTORS = 2 ** 31 / SECTOR_BYTES
const HEADS = 16
const SECTORS_PER_TRACK = 63
/** qemu reads no longer names (block/vmdk.c). */
const MAX_PATH_BYTES = 511

/**
 * Returns the descriptor of a virtual disk in VMware's format, with flat extents that are the files: qemu, libkrun and VirtualBox read it
 * (Virtual Disk Format 5.0, "The Extent Description"). @throws USAGE for a path that it cannot hold
 */
export function formatVmdk({ chainId, sizeBytes, parts }: Disk): string {
  const sectors = sizeBytes / SECTOR_BYTES
  return [
    '# Disk DescriptorFile',
    'version=1',
    `CID=${contentId(chainId)}`,
    'parentCID=ffffffff',
    'createType="twoGbMaxExtentFlat"',
    '',
    '# Extent description',
    ...parts.flatMap(extentsOf),
    '',
    '# The Disk Data Base',
    '#DDB',
    'ddb.virtualHWVersion = "4"',
    `ddb.geometry.cylinders = "${Math.ceil(sectors / (HEADS * SECTORS_PER_TRACK))}"`,
    `ddb.geometry.heads = "${HEADS}"`,
    `ddb.geometry.sectors = "${SECTORS_PER_TRACK}"`,
    'ddb.adapterType = "ide"',
    '',
  ].join('\n')
}

/** The same for the same content; all ones are reserved for a disk without a parent. */
function contentId(chainId: ChainId): string {
  const digits = /:([0-9a-f]{8})/.exec(chainId)?.[1] ?? ''
  return digits === 'ffffffff' ? 'fffffffe' : digits
}

function extentsOf({ path, sizeBytes }: DiskPart): string[] {
  if (/["\n\r\0]/.test(path) || Buffer.byteLength(path) > MAX_PATH_BYTES)
    throw cannotHold(
      'vmdk',
      path,
      `a name of at most ${MAX_PATH_BYTES} bytes, without quotes and line breaks`,
    )
  const sectors = sizeBytes / SECTOR_BYTES
  const extents: string[] = []
  for (let start = 0; start < sectors; start += MAX_EXTENT_SECTORS)
    extents.push(`RW ${Math.min(sectors - start, MAX_EXTENT_SECTORS)} FLAT "${path}" ${start}`)
  return extents
}

/**
 * Returns the table of a disk for the device mapper, one line a part: start, length, `linear`, the file, and where to begin in it, in sectors of 512 bytes. The
 * kernel maps block devices: each file has to be replaced by a loop device of it. @throws USAGE for a path that it cannot hold
 */
export function formatDeviceMapperTable({ parts }: Disk): string {
  return parts
    .map(({ path, sizeBytes, position }) => {
      if (/[\s\\]/.test(path)) throw cannotHold('dm', path, 'a name without spaces and backslashes')
      return `${position / SECTOR_BYTES} ${sizeBytes / SECTOR_BYTES} linear ${path} 0\n`
    })
    .join('')
}

function cannotHold(format: string, path: string, expected: string): LoamError {
  return new LoamError('USAGE', `describe a disk as ${format}: ${JSON.stringify(path)} is not ${expected}`, {
    hint: 'Use --format json, or a store in another directory (--root).',
  })
}
