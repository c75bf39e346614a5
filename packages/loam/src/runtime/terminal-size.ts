/** Size of a terminal, in characters. */
export interface TerminalSize {
  /** Its width. */
  readonly columns: number
  /** Its height. */
  readonly rows: number
}

/** What an OCI configuration says of a process's terminal. */
export interface ConsoleFields {
  readonly terminal: boolean
  /** Without it a runtime sets the size some time after the process has started, and the process may see a terminal of 0 by 0. */
  readonly consoleSize?: { readonly height: number; readonly width: number } | undefined
}

/** Returns the fields of an OCI configuration for a process with or without a terminal. A terminal that does not know its size has 0 by 0. */
export function consoleOf(terminal: boolean, size: TerminalSize | undefined): ConsoleFields {
  if (!terminal || size === undefined || size.columns === 0 || size.rows === 0)
    return { terminal, consoleSize: undefined }
  return { terminal, consoleSize: { height: size.rows, width: size.columns } }
}

/** Returns the requested size of a terminal, or else that of this process's standard output if the new process gets its streams; undefined if it is not known. */
export function sizeAtStart(
  asked: TerminalSize | undefined,
  getsOwnStreams: boolean,
): TerminalSize | undefined {
  if (asked !== undefined || !getsOwnStreams) return asked
  const { isTTY, columns, rows } = process.stdout
  return isTTY ? { columns, rows } : undefined
}
