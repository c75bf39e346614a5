import assert from 'node:assert/strict'
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from 'loamfs'
import { removeUnits, unitFileText, writeUnits } from './unit-files.ts'

const units = [
  { name: 'a.socket', text: '[Socket]\n' },
  { name: 'a.service', text: '[Service]\nRestart=always\n' },
]

function inFolder(act: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'loam-units-'))
  try {
    act(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('units are written, left alone while nothing changes, replaced by those of another version, and removed', () => {
  inFolder((directory) => {
    const options = { directory, force: false }
    const paths = units.map(({ name }) => join(directory, name))
    assert.deepEqual(writeUnits(units, options), paths)
    assert.deepEqual(writeUnits(units, options), [])
    const [socket] = units
    const service = { name: 'a.service', text: '[Service]\nRestart=no\n' }
    assert.deepEqual(writeUnits([socket!, service], options), [join(directory, 'a.service')])
    assert.equal(readFileSync(join(directory, 'a.service'), 'utf8'), unitFileText(service))
    assert.deepEqual(removeUnits(units, options), paths)
    assert.deepEqual(readdirSync(directory), [])
    assert.deepEqual(removeUnits(units, options), [])
  })
})

test('a unit that an administrator has changed, written or masked is neither replaced nor removed, and no other is written', () => {
  const changes: readonly ((path: string) => void)[] = [
    (path) => {
      writeUnits(units, { directory: join(path, '..'), force: false })
      appendFileSync(path, 'Nice=5\n')
      rmSync(join(path, '../a.socket'))
    },
    (path) => {
      writeFileSync(path, '[Service]\n')
    },
    (path) => {
      symlinkSync('/dev/null', path)
    },
  ]
  for (const change of changes) {
    inFolder((directory) => {
      const path = join(directory, 'a.service')
      change(path)
      const before = readFileSync(path, 'utf8')
      for (const act of [writeUnits, removeUnits]) {
        assert.throws(
          () => act(units, { directory, force: false }),
          (error) => isLoamError(error, 'OUTPUT_EXISTS') && error.message.includes(path),
        )
        assert.deepEqual(readdirSync(directory), ['a.service'])
        assert.equal(readFileSync(path, 'utf8'), before)
      }
      assert.equal(writeUnits(units, { directory, force: true }).length, 2)
      assert.equal(readFileSync(path, 'utf8'), unitFileText(units[1]!))
    })
  }
})
