import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isOfFormat, listBinaryFormats } from './index.ts'

test('formats that binfmt_misc has registered by magic are found, and none where it is not mounted', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-binfmt-'))
  try {
    const magic =
      'enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c46b7\nmask fffffffff7\n'
    writeFileSync(join(folder, 'qemu'), magic)
    writeFileSync(join(folder, 'off'), magic.replace('enabled', 'disabled'))
    writeFileSync(join(folder, 'by-name'), 'enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n')
    writeFileSync(join(folder, 'later'), 'enabled\ninterpreter /x\nflags: \noffset 2\nmagic 4142\n')
    writeFileSync(join(folder, 'status'), 'enabled\n')
    writeFileSync(join(folder, 'register'), '')
    const formats = listBinaryFormats(folder)
    assert.equal(formats.length, 2)
    const matches = (head: string) =>
      formats.some((format) => isOfFormat(Buffer.from(head, 'latin1'), format))
    for (const head of ['\x7fELF\xb7', '\x7fELF\xbf', '..AB']) assert.equal(matches(head), true, head)
    for (const head of ['\x7fELF\xb6', '\x7fELF', 'AB', '']) assert.equal(matches(head), false, head)
    mkdirSync(join(folder, 'empty'))
    assert.deepEqual(listBinaryFormats(join(folder, 'empty')), [])
    assert.deepEqual(listBinaryFormats(join(folder, 'nowhere')), [])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
