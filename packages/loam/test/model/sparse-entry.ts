// Sparse files as GNU tar writes them in pax form 1.0 (manual, "Storing Sparse Files"); the project's own writer writes none.
import { formatTarHeader, tarPadding } from '../../src/tar/index.ts'
import type { Attributes } from './image-model.ts'

export interface SparseFile {
  readonly size: number
  readonly segments: readonly { readonly offset: number; readonly data: Buffer }[]
}

/** Returns one entry: extended header, header, map and data. */
export function sparseEntry(name: Buffer, attributes: Attributes, { size, segments }: SparseFile): Buffer {
  const records = [
    record('GNU.sparse.major', Buffer.from('1')),
    record('GNU.sparse.minor', Buffer.from('0')),
    record('GNU.sparse.name', name),
    record('GNU.sparse.realsize', Buffer.from(String(size))),
  ]
  const extended = Buffer.concat(records)
  const header = formatTarHeader({
    type: 'file',
    name: Buffer.from('PaxHeaders/sparse'),
    sizeBytes: extended.length,
  })
  header.write('x', 156, 'latin1')
  seal(header)
  const numbers = [segments.length, ...segments.flatMap(({ offset, data }) => [offset, data.length])]
  const map = Buffer.from(numbers.map((number) => `${number}\n`).join(''))
  const body = Buffer.concat([map, tarPadding(map.length), ...segments.map(({ data }) => data)])
  const { xattrs, ...rest } = attributes
  if (Object.keys(xattrs).length > 0) throw new Error('sparse entries have no xattrs here')
  return Buffer.concat([
    header,
    extended,
    tarPadding(extended.length),
    formatTarHeader({
      ...rest,
      type: 'file',
      name: Buffer.from('GNUSparseFile.0/file'),
      sizeBytes: body.length,
    }),
    body,
    tarPadding(body.length),
  ])
}

function record(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = body.length + 1
  while (String(length).length + body.length !== length) length = String(length).length + body.length
  return Buffer.concat([Buffer.from(String(length)), body])
}

function seal(header: Buffer): void {
  header.fill(32, 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}
