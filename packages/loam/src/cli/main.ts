import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { type ErrorCode, type LoamError } from '../errors/index.ts'
import { endWithoutHandlers } from '../linux/index.ts'
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
import { splitSettings } from './setting-flags.ts'
import { addGlobalOptions } from './session.ts'
import { Output } from './output.ts'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
/** 128 and the number of SIGINT, as shells have it. */
const EXIT_INTERRUPTED = 130
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
export async function main(args: readonly string[]): Promise<void> {
  endWithoutHandlers()
  try {
    const program = makeProgram()
    const { settings, rest } = splitSettings(program, args)
    program.setOptionValue('settings', settings)
    await program.parseAsync([...rest], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : isRunCommand(args) ? EXIT_RUN_FAILED : EXIT_USAGE
      return
    }
    const output = new Output({ json: args.includes('--json'), quiet: false })
    process.exitCode = exitStatus(output.error(error), isRunCommand(args))
  }
}

function makeProgram(): Command {
  const program = new Command('loam')
  addGlobalOptions(program)
    .description('Root filesystems out of container images.')
    .version(readVersion())
    .enablePositionalOptions()
    .showHelpAfterError('hint: loam --help lists the commands')
    .exitOverride()
  program.configureOutput({
    outputError: (text, write) => {
      write(text.replace(/^error: /, 'loam: '))
    },
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
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    command.exitOverride()
    // What stands before the command's name counts for it, too.
    command.hook('preAction', (current) => {
      for (const [name, value] of Object.entries(program.opts())) {
        if (current.getOptionValue(name) === undefined) current.setOptionValue(name, value)
      }
    })
  }
  return program
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
  return USAGE_CODES.includes(error.code) ? EXIT_USAGE : EXIT_FAILED
}

function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
