// Programs that make one system call, without a compiler: what a container may do is asked of the kernel. For amd64.
import { execHelper } from '../../src/runtime/index.ts'

/** Where the code begins: behind the header of ELF and that of one segment. */
const CODE_OFFSET = 64 + 56
/** mov of 8 bytes into rdi, rsi, rdx, r10, r8 and r9. */
const ARGUMENTS: readonly string[] = ['48bf', '48be', '48ba', '49ba', '49b8', '49b9']
const CODE =
  '0f05' + // syscall
  '4885c07905' + // test rax, rax; jns 0
  '48f7d8eb02' + // neg rax; jmp end
  '31c0' + // 0: xor eax, eax
  '89c7b83c0000000f05' // end: mov edi, eax; exit

/** Returns the file of a program that makes a call by its number (asm/unistd_64.h), and ends with the number of its error, or 0. */
export function systemCallProgram(number: number, args: readonly number[]): Buffer {
  const code = Buffer.concat([
    ...args.flatMap((arg, index) => [Buffer.from(ARGUMENTS[index] ?? '', 'hex'), word(arg)]),
    Buffer.from('48b8', 'hex'), // mov rax
    word(number),
    Buffer.from(CODE, 'hex'),
  ])
  // The header of a program that is there fits, but for the sizes of its segment.
  const file = Buffer.concat([execHelper('amd64')?.subarray(0, CODE_OFFSET) ?? Buffer.alloc(0), code])
  for (const at of [96, 104]) file.writeBigUInt64LE(BigInt(file.length), at)
  return file
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(value))
  return bytes
}
