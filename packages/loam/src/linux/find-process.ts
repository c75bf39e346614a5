import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'

/** Returns the words of the command line of a program that runs; undefined if it does not, or cannot be seen. */
export function findCommandLine(program: string): string[] | undefined {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const words = commandLineOf(name)
    if (basename(words[0] ?? '') === program) return words
  }
  return undefined
}

function commandLineOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1)
  } catch {
    // It has ended.
    return []
  }
}
