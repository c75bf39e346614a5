import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { isLoamError, LoamError } from 'loamfs'
import { endWithoutHandlers } from 'loamfs/internal'
import { createProgram } from './program.ts'

/** Runs the command line, usually the daemon until a signal stops it, and sets the exit status. */
export async function main(args: readonly string[]): Promise<void> {
  endWithoutHandlers()
  try {
    checkWords(args)
    await createProgram().parseAsync([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2
      return
    }
    const hint = isLoamError(error) && error.hint !== undefined ? `hint: ${error.hint}\n` : ''
    process.stderr.write(`loamd: ${error instanceof Error ? error.message : String(error)}\n${hint}`)
    process.exitCode = 1
  }
}

/** Checks that the bytes of the command line are those of the words: loam.cjs says why. @throws USAGE */
function checkWords(args: readonly string[]): void {
  if (!args.some((arg) => arg.includes('\uFFFD'))) return
  const words = readFileSync('/proc/self/cmdline', 'latin1').split('\0').slice(0, -1).slice(-args.length)
  const word = args[words.findIndex((each) => !isUtf8(Buffer.from(each, 'latin1')))]
  if (word !== undefined)
    throw new LoamError('USAGE', `read the argument ${JSON.stringify(word)}: it is not UTF-8`)
}
