// Reads of marked files wait for their answers, also while no process but the holder has the group.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { closeSync, ftruncateSync, fstatSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  ALLOW_READ,
  answerRead,
  endHolder,
  FAIL_READ,
  findHolders,
  holdDescriptors,
  listMarkedInodes,
  MappedFile,
  markReads,
  openReadGroup,
  parseReadEvent,
  READ_EVENT_BYTES,
  takeHeld,
  unmarkReads,
} from '../../src/linux/index.ts'
import { gather } from '../support/world.ts'

/** A sparse file whose reads wait. Writes through `fd` wait for nobody, since it was opened before the mark. */
class Marked implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'loam-mark-'))
  readonly path = join(this.folder, 'file')
  readonly fd = openSync(this.path, 'w+')
  readonly group = openReadGroup()
  readonly journal = new MappedFile(join(this.folder, 'journal'), 4096)

  constructor() {
    ftruncateSync(this.fd, 8192)
    markReads(this.group, this.fd)
  }

  /** Starts a reader of one block, and returns its output and status. */
  read(block: number): Promise<string> {
    const child = spawn('dd', [`if=${this.path}`, 'bs=4096', `skip=${block}`, 'count=1', 'status=none'])
    const [stdout, stderr] = [gather(child.stdout), gather(child.stderr)]
    const { promise, resolve } = Promise.withResolvers<string>()
    child.once('close', (status) => {
      resolve(status === 0 ? stdout().replaceAll('\0', '') : stderr())
    })
    return promise
  }

  next(group = this.group) {
    const bytes = this.journal.readFrom(group, 0, READ_EVENT_BYTES)
    const event = parseReadEvent(this.journal.bytes, 0)
    assert.ok(bytes > 0 && event !== undefined)
    return event
  }

  [Symbol.dispose](): void {
    closeSync(this.group)
    closeSync(this.fd)
    rmSync(this.folder, { recursive: true })
  }
}

test('a read of a marked file waits for its answer and gets what was written meanwhile', async () => {
  using marked = new Marked()
  const reading = marked.read(1)
  const event = marked.next()
  assert.ok(event.offset <= 4096 && event.offset + event.count >= 8192, JSON.stringify(event))
  assert.equal(fstatSync(event.fd).ino, fstatSync(marked.fd).ino)
  writeSync(marked.fd, 'data', 4096)
  assert.equal(answerRead(marked.group, event.fd, ALLOW_READ), true)
  assert.equal(answerRead(marked.group, event.fd, ALLOW_READ), false, 'nothing waits any more')
  closeSync(event.fd)
  assert.equal(await reading, 'data')
})

test('a read that is refused fails with an input/output error', async () => {
  using marked = new Marked()
  const reading = marked.read(0)
  const { fd } = marked.next()
  answerRead(marked.group, fd, FAIL_READ)
  closeSync(fd)
  assert.match(await reading, /Input\/output error/)
})

test('a file is listed by its inode while it is marked, and read without the group afterwards', async () => {
  using marked = new Marked()
  assert.deepEqual([...listMarkedInodes(marked.group)], [fstatSync(marked.fd).ino])
  unmarkReads(marked.group, marked.fd)
  unmarkReads(marked.group, marked.fd)
  assert.deepEqual([...listMarkedInodes(marked.group)], [])
  writeSync(marked.fd, 'free', 0)
  assert.equal(await marked.read(0), 'free')
})

test('a holder keeps the group and a descriptor for the process that takes them, until it is ended', async () => {
  using marked = new Marked()
  const holder = await holdDescriptors([marked.group, marked.fd], {
    path: process.env['PATH'] ?? '',
    marker: marked.folder,
  })
  try {
    assert.deepEqual(findHolders(marked.folder), [holder])
    const [group = -1, fd = -1] = takeHeld(holder, 2) ?? []
    const reading = marked.read(0)
    const event = marked.next(group)
    writeSync(fd, 'taken', 0)
    // By its number alone: the process that has read it may be another one.
    answerRead(group, event.fd, ALLOW_READ)
    closeSync(event.fd)
    assert.equal(await reading, 'taken')
    closeSync(group)
    closeSync(fd)
    assert.equal(takeHeld({ ...holder, startTime: holder.startTime - 1 }, 2), undefined, 'another process')
  } finally {
    endHolder(holder)
  }
  while (findHolders(marked.folder).length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  assert.equal(takeHeld(holder, 2), undefined)
  endHolder(holder)
})
