// Reads 4 KiB at random positions of the large files in a folder, the same positions each time.
import { execFileSync } from 'node:child_process'
import { fstatSync, openSync, readSync } from 'node:fs'

const READS = 20_000
const FILES = 200
const BYTES = 4096

const found = execFileSync('find', [process.argv[2] ?? '', '-xdev', '-type', 'f', '-size', '+1M'], {
  encoding: 'utf8',
})
const paths = found
  .split('\n')
  .filter(Boolean)
  .toSorted((a, b) => (a < b ? -1 : 1))
const files = paths.slice(0, FILES).map((path) => {
  const fd = openSync(path, 'r')
  return { fd, blocks: Math.max(1, Math.floor(fstatSync(fd).size / BYTES)) }
})
const buffer = Buffer.alloc(BYTES)
let state = 1
const next = (range: number) => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
  return Math.floor((state / 2 ** 31) * range)
}
for (let read = 0; read < READS; read += 1) {
  const file = files[next(files.length)]
  if (file !== undefined) readSync(file.fd, buffer, 0, BYTES, next(file.blocks) * BYTES)
}
