/*
 * A program of some 160 bytes that does execve(argv[1], argv + 2, environ). OCI runtimes look up args[0] and pass it to the program as its
 * own name; this program runs in between where the two have to differ, as in execlp(value, arguments(0), …) of Mesos. A static ELF file of one
 * segment (elf(5)): header, program header, code. It exits with 127 if the program is not found, and with 126 on any other failure.
 */

const BASE = 0x400000
const ELF_HEADER_BYTES = 64
const PROGRAM_HEADER_BYTES = 56
const CODE_OFFSET = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES

interface Machine {
  /** EM_* of elf.h. */
  readonly machine: number
  readonly code: string
}

/** By the architectures of image configs. */
const MACHINES: Readonly<Record<string, Machine>> = {
  amd64: {
    machine: 62,
    code:
      '488b7c2410' + // mov rdi, [rsp+16]         argv[1]
      '488d742418' + // lea rsi, [rsp+24]         argv + 2
      '488b1424' + // mov rdx, [rsp]              argc
      '488d54d410' + // lea rdx, [rsp+rdx*8+16]   environ
      '6a3b580f05' + // execve
      '83f8fe' + // cmp eax, -ENOENT
      '6a7f5f7402ffcf' + // rdi = it is ? 127 : 126
      '6a3c580f05', // exit
  },
  arm64: {
    machine: 183,
    code:
      'e00b40f9' + // ldr x0, [sp, #16]
      'e1630091' + // add x1, sp, #24
      'e20340f9' + // ldr x2, [sp]
      'e26f228b' + // add x2, sp, x2, lsl #3
      '42400091' + // add x2, x2, #16
      'a81b80d2010000d4' + // execve
      '1f0800b1' + // cmn x0, #ENOENT
      'e00f80d240000054c00f80d2' + // x0 = it is ? 127 : 126
      'a80b80d2010000d4', // exit
  },
}

/** Returns the program's file for an architecture; undefined for an unsupported one. */
export function execHelper(architecture: string): Buffer | undefined {
  const machine = Object.hasOwn(MACHINES, architecture) ? MACHINES[architecture] : undefined
  if (machine === undefined) return undefined
  const code = Buffer.from(machine.code, 'hex')
  const file = Buffer.concat([Buffer.alloc(CODE_OFFSET), code])
  // ELFCLASS64, ELFDATA2LSB, EV_CURRENT
  Buffer.from('7f454c46020101', 'hex').copy(file)
  const ET_EXEC = 2
  file.writeUInt16LE(ET_EXEC, 16)
  file.writeUInt16LE(machine.machine, 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(BigInt(BASE + CODE_OFFSET), 24)
  file.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32)
  file.writeUInt16LE(ELF_HEADER_BYTES, 52)
  file.writeUInt16LE(PROGRAM_HEADER_BYTES, 54)
  file.writeUInt16LE(1, 56)
  const [PT_LOAD, READ_AND_EXECUTE] = [1, 5]
  const header = file.subarray(ELF_HEADER_BYTES)
  header.writeUInt32LE(PT_LOAD, 0)
  header.writeUInt32LE(READ_AND_EXECUTE, 4)
  header.writeBigUInt64LE(BigInt(BASE), 16)
  header.writeBigUInt64LE(BigInt(BASE), 24)
  header.writeBigUInt64LE(BigInt(file.length), 32)
  header.writeBigUInt64LE(BigInt(file.length), 40)
  header.writeBigUInt64LE(0x1000n, 48)
  return file
}
