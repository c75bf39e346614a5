import { CommanderError } from 'commander'
import { isLoamError } from 'loamfs'
import { endWithoutHandlers } from 'loamfs/internal'
import { createProgram } from './program.ts'

/** Runs the command line, usually the daemon until a signal stops it, and sets the exit status. */
export async function main(args: readonly string[]): Promise<void> {
  endWithoutHandlers()
  try {
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
