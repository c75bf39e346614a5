import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { openSpanMap, readSpanMap, recordSpan, SPAN_CLAIMED, SPAN_HERE, SPAN_MISSING } from './span-map.ts'

const BOOT = '11111111-1111-4111-8111-111111111111'
const OTHER_BOOT = '22222222-2222-4222-8222-222222222222'

function inFolder(act: (path: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'loam-spans-'))
  try {
    act(join(folder, 'layer.spans'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a pipe in the place of a map is refused, and not waited for', () => {
  inFolder((path) => {
    execFileSync('mkfifo', [path])
    for (const open of [readSpanMap, openSpanMap])
      assert.throws(
        () => open(path, 3, BOOT),
        (error) => isLoamError(error, 'LAYER_DAMAGED'),
      )
  })
})

test('a span that is recorded as here is here for who reads the map in the same boot, and a claim in another', () => {
  inFolder((path) => {
    const { states, fd } = openSpanMap(path, 3, BOOT)
    assert.deepEqual([...states], [SPAN_MISSING, SPAN_MISSING, SPAN_MISSING])
    recordSpan(fd, 1, SPAN_HERE)
    closeSync(fd)
    assert.deepEqual([...(readSpanMap(path, 3, BOOT) ?? [])], [SPAN_MISSING, SPAN_HERE, SPAN_MISSING])
    assert.deepEqual(
      [...(readSpanMap(path, 3, OTHER_BOOT) ?? [])],
      [SPAN_MISSING, SPAN_CLAIMED, SPAN_MISSING],
    )
  })
})

test('a map that is opened in another boot keeps its claims as claims', () => {
  inFolder((path) => {
    const first = openSpanMap(path, 2, BOOT)
    recordSpan(first.fd, 0, SPAN_HERE)
    closeSync(first.fd)
    const second = openSpanMap(path, 2, OTHER_BOOT)
    closeSync(second.fd)
    assert.deepEqual([...second.states], [SPAN_CLAIMED, SPAN_MISSING])
    assert.deepEqual([...(readSpanMap(path, 2, OTHER_BOOT) ?? [])], [SPAN_CLAIMED, SPAN_MISSING])
  })
})

test('a map that is missing, cut off, or of another number of spans is not read', () => {
  inFolder((path) => {
    assert.equal(readSpanMap(path, 2, BOOT), undefined)
    const { fd } = openSpanMap(path, 2, BOOT)
    closeSync(fd)
    assert.equal(readSpanMap(path, 3, BOOT), undefined)
    truncateSync(path, 20)
    assert.equal(readSpanMap(path, 2, BOOT), undefined)
  })
})
