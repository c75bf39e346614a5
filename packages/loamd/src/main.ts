import { isUtf8 } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { isLoamError, LoamError } from 'loamfs'
import { endWithoutHandlers, writeStandardError } from 'loamfs/internal'
import { createProgram } from './program.ts'

/** As a shell reports a program that SIGPIPE ended: whoever read the output has closed it. */
const EXIT_OUTPUT_CLOSED = 141

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
    if (isLoamError(error, 'OUTPUT_CLOSED')) {
      process.exitCode = EXIT_OUTPUT_CLOSED
      return
    }
    const hint = isLoamError(error) && error.hint !== undefined ? `hint: ${error.hint}\n` : ''
    writeStandardError(`loamd: ${error instanceof Error ? error.message : String(error)}\n${hint}`)
    process.exitCode = 1
  }
}

/** Settings, and variables whose values become names of files. */
const USED =
  /^(?:LOAM_\w+|XDG_(?:DATA|CONFIG)_HOME|XDG_RUNTIME_DIR|HOME|DOCKER_CONFIG|REGISTRY_AUTH_FILE|HADOOP_HOME)=/

/** Checks that the bytes of the command line and of these variables are those of the words: broken-text.cjs says why. @throws USAGE */
function checkWords(args: readonly string[]): void {
  if (![...args, ...Object.values(process.env)].some((each) => each?.includes('\uFFFD') === true)) return
  const wordsOf = (name: string) => readFileSync(`/proc/self/${name}`, 'latin1').split('\0').slice(0, -1)
  const isBroken = (word: string) => !isUtf8(Buffer.from(word, 'latin1'))
  const index = args.length === 0 ? -1 : wordsOf('cmdline').slice(-args.length).findIndex(isBroken)
  const setting = wordsOf('environ').find((word) => USED.test(word) && isBroken(word))
  if (index < 0 && setting === undefined) return
  const what =
    index < 0 ? `the variable ${setting?.split('=')[0]}` : `the argument ${JSON.stringify(args[index])}`
  throw new LoamError('USAGE', `read ${what}: it is not UTF-8`)
}
