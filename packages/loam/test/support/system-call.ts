// Programs that make one system call, without a compiler, to ask the kernel what a container may do. For amd64.
import { execHelper } from '../../src/runtime/index.ts'

/** Offset of the code: after the headers of ELF and of one segment. */
const CODE_OFFSET = 64 + 56
/** mov of 8 bytes into rdi, rsi, rdx, r10, r8 and r9. */
const ARGUMENTS: readonly string[] = ['48bf', '48be', '48ba', '49ba', '49b8', '49b9']
const CODE =
  '0f05' + // syscall
  '4885c07905' + // test rax, rax; jns 0
  '48f7d8eb02' + // neg rax; jmp end
  '31c0' + // 0: xor eax, eax
  '89c7b83c0000000f05' // end: mov edi, eax; exit

/** Returns the file of a program that makes a call by its number (asm/unistd_64.h), and exits with its errno, or 0. */
export function systemCallProgram(number: number, args: readonly number[]): Buffer {
  const code = Buffer.concat([
    ...args.flatMap((arg, index) => [Buffer.from(ARGUMENTS[index] ?? '', 'hex'), word(arg)]),
    Buffer.from('48b8', 'hex'), // mov rax
    word(number),
    Buffer.from(CODE, 'hex'),
  ])
  // The header of an existing program fits, except for the sizes of its segment.
  const file = Buffer.concat([execHelper('amd64')?.subarray(0, CODE_OFFSET) ?? Buffer.alloc(0), code])
  for (const at of [96, 104]) file.writeBigUInt64LE(BigInt(file.length), at)
  return file
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(value))
  return bytes
}
