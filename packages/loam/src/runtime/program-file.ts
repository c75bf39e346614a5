/*
 * Reads an executable as execve(2) does (fs/binfmt_script.c, fs/binfmt_elf.c): a script begins with `#!` and the path
 * of its interpreter, a binary with ELF's header, and may name the program that loads it (PT_INTERP). Fails as the kernel would,
 * but with a reason: the kernel's error alone does not distinguish a missing interpreter from a missing program.
 */

/** Reads a part of a file; fewer bytes than requested at its end. */
export type ReadPart = (offset: number, length: number) => Buffer

/** The kernel's view of a file. */
export type ProgramFile =
  | {
      readonly kind: 'program'
      /** Path of the program that runs or loads this file; undefined for a static binary. */
      readonly interpreter: string | undefined
    }
  | { readonly kind: 'invalid'; readonly why: string; readonly hint?: string | undefined }

/** BINPRM_BUF_SIZE of the kernel: the bytes that it reads to detect the format. */
export const HEAD_BYTES = 256
const PATH_MAX = 4096
const ET_EXEC = 2
const ET_DYN = 3
const PT_INTERP = 3

/** The EM_* of elf.h by the architectures of image configs; the first one is the machine's own, the others may run on it. */
const MACHINES: Readonly<Record<string, readonly number[]>> = {
  amd64: [62, 3],
  386: [3],
  arm64: [183, 40],
  arm: [40],
  riscv64: [243],
  ppc64le: [21],
  s390x: [22],
  loong64: [258],
}

/** Returns how the kernel of an `architecture` would execute a file. */
export function readProgramFile(read: ReadPart, architecture: string): ProgramFile {
  const head = read(0, HEAD_BYTES)
  if (head.subarray(0, 2).toString('latin1') === '#!') return readScript(head)
  if (head.subarray(0, 4).toString('latin1') === '\x7fELF') return readElf(head, read, architecture)
  if (head.length === 0) return invalid('it is empty')
  return invalid(
    'it is neither a binary nor a script with `#!` in its first line',
    'Start the script with `#!/bin/sh`, or run it with /bin/sh FILE',
  )
}

function invalid(why: string, hint?: string): ProgramFile {
  return { kind: 'invalid', why, hint }
}

function readScript(head: Buffer): ProgramFile {
  const newline = head.indexOf(0x0a)
  const line = head.subarray(2, newline < 0 ? head.length : newline).toString('utf8')
  const [, interpreter = '', end = ''] = /^[ \t]*([^ \t\0]*)(.?)/s.exec(line) ?? []
  if (interpreter === '') return invalid('its first line names no interpreter')
  // The path may be cut off where the line is.
  if (newline < 0 && end === '' && head.length === HEAD_BYTES)
    return invalid(`its first line is longer than ${HEAD_BYTES} bytes`)
  return { kind: 'program', interpreter }
}

/** Offsets of the fields of ELF, by its word size (elf.h, Elf32_Ehdr, Elf64_Ehdr and the program headers). */
const ELF32 = { header: 52, table: 28, entry: 42, count: 44, size: 32, offset: 4, length: 16 }
const ELF64 = { header: 64, table: 32, entry: 54, count: 56, size: 56, offset: 8, length: 32 }

function readElf(head: Buffer, read: ReadPart, architecture: string): ProgramFile {
  const fields = head[4] === 2 ? ELF64 : ELF32
  if (head.length < fields.header) return invalid('it is cut off')
  const numbers = numbersOf(head)
  const [type, machine] = [numbers.u16(head, 16), numbers.u16(head, 18)]
  const machines = Object.hasOwn(MACHINES, architecture) ? MACHINES[architecture] : undefined
  if (machines?.includes(machine) === false) {
    return invalid(
      `it is for another architecture (${nameOfMachine(machine)}, and this machine is ${architecture})`,
      `Use the image for linux/${architecture}, or install an emulator (qemu-user-static).`,
    )
  }
  if (type !== ET_EXEC && type !== ET_DYN) return invalid('it is a binary, but not a program')
  const length = numbers.u16(head, fields.count) * fields.size
  const table = read(numbers.word(head, fields.table), length)
  if (numbers.u16(head, fields.entry) !== fields.size || length === 0 || table.length < length)
    return invalid('it is damaged: its headers are missing')
  for (let at = 0; at < table.length; at += fields.size) {
    if (numbers.u32(table, at) !== PT_INTERP) continue
    const size = numbers.word(table, at + fields.length)
    const path = size > PATH_MAX ? Buffer.alloc(0) : read(numbers.word(table, at + fields.offset), size)
    if (path.length < 2 || path.length < size || path.at(-1) !== 0)
      return invalid('it is damaged: the name of its loader is missing')
    return { kind: 'program', interpreter: path.subarray(0, path.indexOf(0)).toString('utf8') }
  }
  return { kind: 'program', interpreter: undefined }
}

/** Returns the reader of a binary's numbers, by the word size and byte order in its header. */
function numbersOf(head: Buffer): Record<'u16' | 'u32' | 'word', (bytes: Buffer, at: number) => number> {
  const isBig = head[5] === 2
  const u16 = (bytes: Buffer, at: number) => (isBig ? bytes.readUInt16BE(at) : bytes.readUInt16LE(at))
  const u32 = (bytes: Buffer, at: number) => (isBig ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at))
  const u64 = (bytes: Buffer, at: number) =>
    Number(isBig ? bytes.readBigUInt64BE(at) : bytes.readBigUInt64LE(at))
  return { u16, u32, word: head[4] === 2 ? u64 : u32 }
}

function nameOfMachine(machine: number): string {
  return Object.entries(MACHINES).find(([, [own]]) => own === machine)?.[0] ?? `ELF machine ${machine}`
}
