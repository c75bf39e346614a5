import { type Command, CommanderError } from 'commander'
import { readTraceContext, withRequest } from '../activity/index.ts'
import { type ErrorCode, isLoamError, type LoamError, toLoamError } from '../errors/index.ts'
import { endWithoutHandlers } from '../linux/index.ts'
import { translateWords } from './command-aliases.ts'
import { commandIndex, hostWords, moveOptions, translatePull, ownWords } from './command-line.ts'
import { type Host, OwnProcessNeeded } from './host.ts'
import { Output } from './output.ts'
import { processHost } from './process-host.ts'
import { createProgram } from './program.ts'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
/** 128 and the number of SIGINT, as in shells. */
const EXIT_INTERRUPTED = 130
/** The same for SIGPIPE: exit status of a program that is ended by writing to a closed pipe. */
const EXIT_OUTPUT_CLOSED = 141
// As in podman and docker.
const EXIT_RUN_FAILED = 125
const EXIT_NOT_EXECUTABLE = 126
const EXIT_NOT_FOUND = 127

/** Errors of the command line itself, whatever the state of the machine. */
const USAGE_CODES: readonly ErrorCode[] = [
  'USAGE',
  'REFERENCE_INVALID',
  'PLATFORM_INVALID',
  'ID_INVALID',
  'BACKEND_UNKNOWN',
]

/** Commands with the statuses of a process in a container. */
const PROCESS_COMMANDS: readonly string[] = ['run', 'exec']

/** Runs the command line as this process, and sets the exit status. Never throws. */
export async function main(args: readonly string[], version: string): Promise<void> {
  endWithoutHandlers()
  const status = await runCommandLine(args, version, processHost())
  process.exitCode = status
  // Everything is closed; but a name server that does not answer would keep the process until the system's own timeout.
  if (status === EXIT_INTERRUPTED) process.exit()
}

/** Runs the command line for a host, which may be another process. Returns the exit status. @throws only what `host.requireOwnProcess`, `host.checkCommand` and `host.checkWords` throw */
export async function runCommandLine(args: readonly string[], version: string, host: Host): Promise<number> {
  let help = ''
  const program = createProgram(version, host, (text) => {
    help += text
  })
  const own = translateWords(args, commandIndex(program, args))
  const words = translatePull(program, moveOptions(program, own))
  await host.checkWords(hostWords(program, words))
  try {
    await within(host.env, async () => program.parseAsync([...words], { from: 'user' }))
    return host.exitStatus
  } catch (error) {
    // Help or the version was written.
    if (error instanceof CommanderError) return host.exitStatus
    if (error instanceof OwnProcessNeeded) throw error
    if (isLoamError(error, 'OUTPUT_CLOSED')) return EXIT_OUTPUT_CLOSED
    const output = new Output(host, { json: isJson(program, words), quiet: false })
    if (help !== '' && !output.json) host.stderr.write(help)
    else output.error(toLoamError(error, 'run the command'))
    return exitStatus(toLoamError(error, 'run the command'), isRun(program, words))
  }
}

/** Work of the command is a part of the span that its caller names in the environment, as OpenTelemetry has it. */
function within<Result>(env: Host['env'], act: () => Result): Result {
  const trace = readTraceContext(env['TRACEPARENT'], env['TRACESTATE'])
  return trace === undefined ? act() : withRequest({ trace }, act)
}

/** Returns whether errors are JSON: by the parsed options, or by the words if parsing failed. So are those of `--progress=json`, as all lines there. */
function isJson(program: Command, words: readonly string[]): boolean {
  const commands = [program, ...program.commands, ...program.commands.flatMap(({ commands: below }) => below)]
  const own = ownWords(program, words)
  return (
    commands.some((command) => command.opts()['json'] === true || command.opts()['progress'] === 'json') ||
    own.includes('--json') ||
    own.includes('--progress=json')
  )
}

/** The command is the first word that is neither an option nor an option's value. */
function isRun(program: Command, words: readonly string[]): boolean {
  return PROCESS_COMMANDS.includes(words[commandIndex(program, words)] ?? '')
}

function exitStatus(error: LoamError, isRunCommand: boolean): number {
  if (error.code === 'CANCELED') return EXIT_INTERRUPTED
  if (isRunCommand) {
    if (error.code === 'COMMAND_NOT_FOUND') return EXIT_NOT_FOUND
    if (error.code === 'COMMAND_NOT_EXECUTABLE') return EXIT_NOT_EXECUTABLE
    return EXIT_RUN_FAILED
  }
  // An invalid setting on the command line is wrong usage; one in a file is not.
  const isUsage = USAGE_CODES.includes(error.code) || error.details['origin'] === 'flag'
  return isUsage ? EXIT_USAGE : EXIT_FAILED
}
