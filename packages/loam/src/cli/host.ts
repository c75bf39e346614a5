import type { Loam, LoamOptions } from '../app/index.ts'
import type { RunStarter } from '../containers/index.ts'

/**
 * What a command takes from the process that it is run for, in place of `process`: that process is the command's own, or the client of the daemon,
 * in which commands of many clients run at once.
 */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from. */
  readonly cwd: string
  readonly stdin: HostStream
  readonly stdout: HostOutput
  readonly stderr: HostOutput
  /** What the command ends with, unless it fails. */
  exitStatus: number
  /** Asks the person at the terminal, and returns the line that was typed; empty at the end of the input. @throws when the signal fires */
  readonly ask: (question: string, signal: AbortSignal) => Promise<string>
  /** Listens to the signals that interrupt a command, until it is released. */
  readonly watchSignals: () => Interruption
  /** Opens the store of the settings of one command. */
  readonly openLoam: (options: LoamOptions) => Promise<Loam>
  /** Throws `OwnProcessNeeded` where a word names what only the caller's own process has. Gets all words but those for a container. */
  readonly checkWords: (words: readonly string[]) => Promise<void>
  /** Throws where an operation needs the memory, streams or rights of the caller's own process, and this is not it. */
  readonly requireOwnProcess: () => void
  /** Keeps secrets out of what the kernel writes of the memory of a process. */
  readonly protectMemory: () => void
  /** Who starts the OCI runtime of `run`; undefined for this process. */
  readonly starter: RunStarter | undefined
}

export interface HostStream {
  readonly isTerminal: boolean
}

export interface HostOutput extends HostStream {
  /** Width of the terminal in characters; undefined where it is none. */
  readonly columns: number | undefined
  /** Whether much of what was written is not read yet: what is only drawn is left out. */
  readonly isBehind: boolean
  /** @throws OUTPUT_CLOSED for standard output that is not read any more */
  readonly write: (text: string) => void
}

export interface Interruption {
  /** Fires when the user interrupts. */
  readonly signal: AbortSignal
  /** From here on another process handles signals, a container for example. */
  readonly release: () => void
}

/** Thrown by `requireOwnProcess` and `checkWords`: the command line has to be run by the process of its caller. */
export class OwnProcessNeeded extends Error {}
