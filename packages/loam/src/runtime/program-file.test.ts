import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type ProgramFile, readProgramFile } from './index.ts'

const read = (bytes: Buffer | string, architecture = 'amd64'): ProgramFile => {
  const file = Buffer.from(bytes)
  return readProgramFile((offset, length) => file.subarray(offset, offset + length), architecture)
}
const run = (interpreter: string | undefined) => ({ kind: 'program', interpreter })
const why = (file: ProgramFile) => (file.kind === 'invalid' ? file.why : file.interpreter)

/** A binary with one program header for each of `headers`: its type and, if it names one, a path. */
function elf({
  machine = 62,
  type = 3,
  headers = [[1, '']],
  is64 = true,
  isBig = false,
}: {
  machine?: number
  type?: number
  headers?: [number, string][]
  is64?: boolean
  isBig?: boolean
} = {}): Buffer {
  const [start, size] = is64 ? [64, 56] : [52, 32]
  const file = Buffer.alloc(start + size * headers.length)
  const texts: Buffer[] = []
  const u16 = (value: number, at: number) =>
    isBig ? file.writeUInt16BE(value, at) : file.writeUInt16LE(value, at)
  const u32 = (value: number, at: number) =>
    isBig ? file.writeUInt32BE(value, at) : file.writeUInt32LE(value, at)
  const word = (value: number, at: number) => {
    if (!is64) return u32(value, at)
    return isBig ? file.writeBigUInt64BE(BigInt(value), at) : file.writeBigUInt64LE(BigInt(value), at)
  }
  Buffer.from(`7f454c460${is64 ? 2 : 1}0${isBig ? 2 : 1}01`, 'hex').copy(file)
  u16(type, 16)
  u16(machine, 18)
  word(start, is64 ? 32 : 28)
  u16(size, is64 ? 54 : 42)
  u16(headers.length, is64 ? 56 : 44)
  let end = file.length
  for (const [index, [kind, path]] of headers.entries()) {
    const at = start + index * size
    const bytes = path === '' ? Buffer.alloc(0) : Buffer.from(`${path}\0`)
    u32(kind, at)
    word(end, at + (is64 ? 8 : 4))
    word(bytes.length, at + (is64 ? 32 : 16))
    texts.push(bytes)
    end += bytes.length
  }
  return Buffer.concat([file, ...texts])
}

describe('a program file', () => {
  test('a script names its interpreter as the kernel reads it', () => {
    for (const [first, interpreter] of [
      ['#!/bin/sh\n', '/bin/sh'],
      ['#! \t/bin/sh -x y\n', '/bin/sh'],
      ['#!/usr/bin/env\tnode\n', '/usr/bin/env'],
      ['#!bin/sh', 'bin/sh'],
      ['#!/bin/sh\r\necho\r\n', '/bin/sh\r'],
      ['#!/bin/sh\0rest\n', '/bin/sh'],
      [`#!/bin/sh ${'x'.repeat(300)}`, '/bin/sh'],
    ])
      assert.deepEqual(read(first ?? ''), run(interpreter), JSON.stringify(first))
    for (const first of ['#!', '#!\n/bin/sh', '#!  \t \n', `#!/${'x'.repeat(300)}`])
      assert.equal(read(first).kind, 'invalid', JSON.stringify(first))
  })

  test('a binary of either word size and byte order names its loader', () => {
    for (const is64 of [true, false]) {
      for (const [isBig, machine, architecture] of [
        [false, is64 ? 62 : 3, 'amd64'],
        [true, 22, 's390x'],
      ] as const) {
        const options = { is64, isBig, machine }
        assert.deepEqual(read(elf(options), architecture), run(undefined))
        const headers: [number, string][] = [
          [6, ''],
          [3, '/lib/ld.so.1'],
          [1, ''],
        ]
        assert.deepEqual(read(elf({ ...options, headers, type: 2 }), architecture), run('/lib/ld.so.1'))
      }
    }
    const own = readFileSync('/bin/ls')
    if (own.readUInt16LE(18) === 62) assert.equal(read(own).kind, 'program')
  })

  test('a program for another architecture is told apart from one that this machine may also run', () => {
    assert.match(
      why(read(elf({ machine: 183 }))) ?? '',
      /another architecture \(arm64, and this machine is amd64\)/,
    )
    assert.match(why(read(elf({ machine: 62 }), 'arm64')) ?? '', /amd64, and this machine is arm64/)
    assert.match(why(read(elf({ machine: 0 }))) ?? '', /ELF machine 0/)
    assert.deepEqual(read(elf({ machine: 3, is64: false })), run(undefined))
    assert.deepEqual(read(elf({ machine: 40, is64: false }), 'arm64'), run(undefined))
    assert.deepEqual(read(elf({ machine: 9999 }), 'an architecture of tomorrow'), run(undefined))
  })

  test('a program file that is cut off at any byte, damaged or of an unknown kind is invalid', () => {
    const whole = elf({
      headers: [
        [1, ''],
        [3, '/lib/ld.so.1'],
      ],
    })
    for (let length = 0; length < whole.length; length += 1)
      assert.equal(read(whole.subarray(0, length)).kind, 'invalid', String(length))
    assert.equal(read(elf({ type: 1 })).kind, 'invalid')
    assert.equal(read(elf({ headers: [] })).kind, 'invalid')
    for (const text of [
      '',
      'echo hi\n',
      '\x7fELF',
      'MZ\x90',
      '\0\0\0\0',
      '#',
      ' #!/bin/sh\n',
      '\ufeff#!/bin/sh\n',
    ])
      assert.equal(read(text).kind, 'invalid', JSON.stringify(text))
    const huge = elf()
    huge.fill(0xff, 32, 40)
    assert.equal(read(huge).kind, 'invalid')
  })
})
