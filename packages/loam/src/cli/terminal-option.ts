import { LoamError } from '../errors/index.ts'
import type { HostStream } from './host.ts'

/** Checks that a terminal that was asked for is there. @throws USAGE */
export function checkTerminal(tty: boolean | undefined, stdin: HostStream): void {
  if (tty !== true || stdin.isTerminal) return
  throw new LoamError('USAGE', 'use a terminal (--tty): standard input is not one', {
    hint: 'Leave out -t; -i alone passes the input on.',
  })
}
