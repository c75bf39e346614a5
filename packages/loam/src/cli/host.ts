import type { Loam, LoamOptions } from '../app/index.ts'
import type { RunStarter } from '../containers/index.ts'

/**
 * The process that a command runs for, in place of `process`: the command's own, or the client of a daemon in which commands of
 * many clients run at once.
 */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process if it was removed: a relative path fails then. */
  readonly cwd: string
  /** The user who runs the command. */
  readonly userId: number
  readonly stdin: HostStream
  readonly stdout: HostOutput
  readonly stderr: HostOutput
  /** Exit status of the command, unless it fails. */
  exitStatus: number
  /** Asks the user at the terminal, and returns the typed line; empty at the end of the input. @throws when the signal fires */
  readonly ask: (question: string, signal: AbortSignal) => Promise<string>
  /** Asks as `ask`, and does not show what is typed. Only in the caller's own process. @throws when the signal fires */
  readonly askSecret: (question: string, signal: AbortSignal) => Promise<string>
  /** Reads standard input to its end, `maxBytes` at most. Only in the caller's own process. @throws USAGE for more */
  readonly readInput: (maxBytes: number) => Promise<string>
  /** Listens to the signals that interrupt a command, until it is released. */
  readonly watchSignals: () => Interruption
  /** Opens the store with the settings of one command. */
  readonly openLoam: (options: LoamOptions) => Promise<Loam>
  /** Throws `OwnProcessNeeded` if a word names a file that only the caller's own process can open. Gets all words except those for a container. */
  readonly checkWords: (words: readonly string[]) => Promise<void>
  /** Throws `OwnProcessNeeded` if a command, given by its name and those of its groups, has to run with the rights of its caller, and this process has others. */
  readonly checkCommand: (names: readonly string[]) => void
  /** Throws if an operation needs the memory, streams or rights of the caller's own process, and this is another one. */
  readonly requireOwnProcess: () => void
  /** Excludes secrets from core dumps of a process. */
  readonly protectMemory: () => void
  /** Starter of the OCI runtime of `run`; undefined for this process. */
  readonly starter: RunStarter | undefined
}

export interface HostStream {
  readonly isTerminal: boolean
}

export interface HostOutput extends HostStream {
  /** Width of the terminal in characters; undefined if the stream is not a terminal. */
  readonly columns: number | undefined
  /** Height of the terminal in lines; undefined if the stream is not a terminal. */
  readonly rows?: number | undefined
  /** Whether much output is still unread: then progress is not drawn, and long output waits. */
  readonly isBehind: boolean
  /** Writes a text, or bytes as they are. @throws OUTPUT_CLOSED if standard output is not read any more */
  readonly write: (text: string | Uint8Array) => void
}

export interface Interruption {
  /** Fires when the user interrupts. */
  readonly signal: AbortSignal
  /** Called when another process, for example a container, handles signals from now on. */
  readonly release: () => void
}

/** Thrown by `requireOwnProcess`, `checkCommand` and `checkWords`: the command line has to be run by the process of its caller. */
export class OwnProcessNeeded extends Error {}
