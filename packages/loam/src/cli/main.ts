import { Command, CommanderError } from 'commander'
import { type ErrorCode, isLoamError, type LoamError, toLoamError } from '../errors/index.ts'
import { endWithoutHandlers, protectMemory, writeStandardError, writeStandardOutput } from '../linux/index.ts'
import { addConfig } from './commands/config.ts'
import { addDestroy } from './commands/destroy.ts'
import { addDf } from './commands/df.ts'
import { addDoctor } from './commands/doctor.ts'
import { addExport } from './commands/export.ts'
import { addFsck } from './commands/fsck.ts'
import { addGc } from './commands/gc.ts'
import { addImages } from './commands/images.ts'
import { addImport } from './commands/import.ts'
import { addInspect } from './commands/inspect.ts'
import { addProvision } from './commands/provision.ts'
import { addPrune } from './commands/prune.ts'
import { addPs } from './commands/ps.ts'
import { addPull } from './commands/pull.ts'
import { addPush } from './commands/push.ts'
import { addPut } from './commands/put.ts'
import { addRecover } from './commands/recover.ts'
import { addRmi } from './commands/rmi.ts'
import { addRun } from './commands/run.ts'
import { addSnapshot } from './commands/snapshot.ts'
import { addVolume } from './commands/volume.ts'
import { moveOptions, ownWords } from './command-line.ts'
import { unknownCommand, usageError } from './usage-error.ts'
import { splitSettings } from './setting-flags.ts'
import { addGlobalOptions } from './session.ts'
import { Output } from './output.ts'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
/** 128 and the number of SIGINT, as shells have it. */
const EXIT_INTERRUPTED = 130
/** The same for SIGPIPE: what a program ends with that does not look whether it is read. */
const EXIT_OUTPUT_CLOSED = 141
// As podman and docker have them.
const EXIT_RUN_FAILED = 125
const EXIT_NOT_EXECUTABLE = 126
const EXIT_NOT_FOUND = 127

/** What the user wrote is wrong in itself, whatever the state of the world. */
const USAGE_CODES: readonly ErrorCode[] = [
  'USAGE',
  'REFERENCE_INVALID',
  'PLATFORM_INVALID',
  'ID_INVALID',
  'BACKEND_UNKNOWN',
]

/** Runs the command line and sets the exit status. Never throws. */
export async function main(args: readonly string[], version: string): Promise<void> {
  endWithoutHandlers()
  let help = ''
  const program = createProgram(version, (text) => {
    help += text
  })
  let words = moveOptions(program, args)
  try {
    const { settings, rest } = splitSettings(program, words)
    words = rest
    program.setOptionValue('settings', settings)
    await program.parseAsync([...rest], { from: 'user' })
  } catch (error) {
    // Help and the version are written.
    if (error instanceof CommanderError) return
    if (isLoamError(error, 'OUTPUT_CLOSED')) {
      process.exitCode = EXIT_OUTPUT_CLOSED
      return
    }
    const output = new Output({ json: isJson(program, words), quiet: false })
    if (help !== '' && !output.json) writeStandardError(help)
    else output.error(error)
    process.exitCode = exitStatus(toLoamError(error, 'loam'), isRunCommand(words))
    // All is closed; but a name server that does not answer would keep the process for as long as the system waits for it.
    if (isLoamError(error, 'CANCELED')) process.exit()
  }
}

/** What was read of the options says it; where it did not come to that, the words do. */
function isJson(program: Command, words: readonly string[]): boolean {
  const commands = [program, ...program.commands, ...program.commands.flatMap(({ commands: below }) => below)]
  return commands.some((command) => command.opts()['json'] === true) || ownWords(words).includes('--json')
}

/** `writeHelp` takes the help that is the answer to a command line without a command. */
function createProgram(version: string, writeHelp: (text: string) => void): Command {
  const program = new Command('loam')
  addGlobalOptions(program)
    .description('Root filesystems out of container images.')
    .version(version)
    .enablePositionalOptions()
    .helpCommand(false)
  // Every error is written in one place, as text or as JSON.
  program.configureOutput({
    writeOut: writeStandardOutput,
    outputError: () => undefined,
    writeErr: writeHelp,
  })
  const adders = [
    addPull,
    addPut,
    addPush,
    addProvision,
    addVolume,
    addRun,
    addDestroy,
    addPs,
    addImages,
    addRmi,
    addInspect,
    addExport,
    addImport,
    addSnapshot,
    addDf,
    addFsck,
    addPrune,
    addGc,
    addRecover,
    addDoctor,
    addConfig,
  ]
  for (const add of adders) add(program)
  program.addHelpText(
    'after',
    '\nEach setting of `loam config` may be given as a flag, too: --docker_registry=/srv/images',
  )
  addHelp(program)
  for (const command of [program, ...program.commands.flatMap((each) => [each, ...each.commands])]) {
    command.exitOverride((error) => {
      throw error.exitCode === 0 ? error : usageError(error, command)
    })
    if (command === program) continue
    command.hook('preAction', (current) => {
      protectMemory()
      // What stands before the command's name counts for it, too.
      for (const [name, value] of Object.entries(program.opts())) {
        if (current.getOptionValue(name) === undefined) current.setOptionValue(name, value)
      }
    })
  }
  return program
}

function addHelp(program: Command): void {
  program
    .command('help [command...]')
    .description('show how a command is used')
    .action((names: readonly string[]) => {
      let command = program
      for (const name of names) {
        const next = command.commands.find((each) => each.name() === name || each.aliases().includes(name))
        if (next === undefined) throw unknownCommand(name, command)
        command = next
      }
      command.outputHelp()
    })
}

/** The first word that is neither an option nor an option's value. */
function isRunCommand(args: readonly string[]): boolean {
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index] ?? ''
    if (!arg.startsWith('-')) return arg === 'run'
    if (['--root', '--state', '--config'].includes(arg)) index += 1
  }
  return false
}

function exitStatus(error: LoamError, isRun: boolean): number {
  if (error.code === 'CANCELED') return EXIT_INTERRUPTED
  if (isRun) {
    if (error.code === 'COMMAND_NOT_FOUND') return EXIT_NOT_FOUND
    if (error.code === 'COMMAND_NOT_EXECUTABLE') return EXIT_NOT_EXECUTABLE
    return EXIT_RUN_FAILED
  }
  // A setting that is wrong on the command line is wrong usage; in a file it is the file.
  const isUsage = USAGE_CODES.includes(error.code) || error.details['origin'] === 'flag'
  return isUsage ? EXIT_USAGE : EXIT_FAILED
}
