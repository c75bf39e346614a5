import { LoamError } from '../errors/index.ts'
import type { TerminalSize } from '../runtime/index.ts'
import type { Host, HostStream } from './host.ts'

/** Checks that a terminal that was asked for is there. @throws USAGE */
export function checkTerminal(tty: boolean | undefined, stdin: HostStream): void {
  if (tty !== true || stdin.isTerminal) return
  throw new LoamError('USAGE', 'use a terminal (--tty): standard input is not one', {
    hint: 'Leave out -t; -i alone passes the input on.',
  })
}

/** Returns the size of the terminal of the caller; undefined if output and errors are none. */
export function terminalSizeOf({ stdout, stderr }: Host): TerminalSize | undefined {
  const [columns, rows] = [stdout.columns ?? stderr.columns, stderr.rows ?? stdout.rows]
  return columns === undefined || rows === undefined ? undefined : { columns, rows }
}
