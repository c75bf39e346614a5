import { Command } from 'commander'
import { addCompletion } from './commands/completion.ts'
import { addCopy } from './commands/copy.ts'
import { addConfig } from './commands/config.ts'
import { addDestroy } from './commands/destroy.ts'
import { addDf } from './commands/df.ts'
import { addDiff } from './commands/diff.ts'
import { addDisks } from './commands/disks.ts'
import { addDoctor } from './commands/doctor.ts'
import { addDu } from './commands/du.ts'
import { addEvents } from './commands/events.ts'
import { addExport } from './commands/export.ts'
import { addFsck } from './commands/fsck.ts'
import { addGc } from './commands/gc.ts'
import { addHistory } from './commands/history.ts'
import { addImages } from './commands/images.ts'
import { addImport } from './commands/import.ts'
import { addIndex } from './commands/index-image.ts'
import { addInspect } from './commands/inspect.ts'
import { addLoad } from './commands/load.ts'
import { addLogin } from './commands/login.ts'
import { addLogout } from './commands/logout.ts'
import { addLayers } from './commands/layers.ts'
import { addProvision } from './commands/provision.ts'
import { addPrune } from './commands/prune.ts'
import { addPs } from './commands/ps.ts'
import { addPull } from './commands/pull.ts'
import { addPush } from './commands/push.ts'
import { addPut } from './commands/put.ts'
import { addRecover } from './commands/recover.ts'
import { addRmi } from './commands/rmi.ts'
import { addRun } from './commands/run.ts'
import { addSave } from './commands/save.ts'
import { addSnapshot } from './commands/snapshot.ts'
import { addStatus } from './commands/status.ts'
import { addTag } from './commands/tag.ts'
import { addTags } from './commands/tags.ts'
import { addUi } from './commands/ui.ts'
import { addUnexport } from './commands/unexport.ts'
import { addUnshare } from './commands/unshare.ts'
import { addUntag } from './commands/untag.ts'
import { addVolume } from './commands/volume.ts'
import { addExec } from './commands/exec.ts'
import { addLogs } from './commands/logs.ts'
import { addRm } from './commands/rm.ts'
import { addKill, addStart, addStop } from './commands/stop.ts'
import { translateWords } from './command-aliases.ts'
import { addExamples } from './command-examples.ts'
import { groupCommands } from './command-groups.ts'
import { addCp } from './commands/cp.ts'
import { addCommit } from './commands/commit.ts'
import { addMount, addUmount } from './commands/mount.ts'
import type { Host } from './host.ts'
import { addGlobalOptions } from './session.ts'
import { addSettingOptions, settingsOf } from './setting-options.ts'
import { isOtherPair, unknownCommand, usageError } from './usage-error.ts'

/** Width of help that is not written to a terminal, as in commander. */
const HELP_WIDTH = 80

/** All commands; the help sorts them. */
const ADDERS = [
  addPull,
  addPut,
  addPush,
  addCopy,
  addSave,
  addLoad,
  addLogin,
  addLogout,
  addIndex,
  addProvision,
  addVolume,
  addRun,
  addExec,
  addLogs,
  addStop,
  addKill,
  addStart,
  addRm,
  addCommit,
  addMount,
  addUmount,
  addCp,
  addDestroy,
  addPs,
  addImages,
  addTag,
  addTags,
  addUntag,
  addRmi,
  addInspect,
  addHistory,
  addLayers,
  addDu,
  addDiff,
  addExport,
  addUnexport,
  addDisks,
  addImport,
  addSnapshot,
  addDf,
  addFsck,
  addPrune,
  addGc,
  addRecover,
  addDoctor,
  addUnshare,
  addConfig,
  addStatus,
  addEvents,
  addUi,
  addCompletion,
] as const

/** Creates the command line with all its commands. `writeHelp` receives the help that answers a command line without a command. */
export function createProgram(version: string, host: Host, writeHelp: (text: string) => void): Command {
  const program = new Command('loam')
  addGlobalOptions(program)
    .description('Create root filesystems from container images.')
    .version(version)
    .enablePositionalOptions()
    .helpCommand(false)
  // Every error is written in one place, as text or as JSON.
  program.configureOutput({
    writeOut: host.stdout.write,
    getOutHelpWidth: () => host.stdout.columns ?? HELP_WIDTH,
    getErrHelpWidth: () => host.stderr.columns ?? HELP_WIDTH,
    outputError: () => undefined,
    writeErr: writeHelp,
  })
  for (const add of ADDERS) add(program, host)
  program.addHelpText(
    'after',
    '\nEvery setting of `loam config` is also a flag, for example --docker_registry=/srv/images',
  )
  addHelp(program)
  groupCommands(program)
  addExamples(program)
  addSettingOptions(program)
  for (const command of [program, ...program.commands.flatMap((each) => [each, ...each.commands])]) {
    command.exitOverride((error) => {
      throw error.exitCode === 0 ? error : usageError(error, command)
    })
    if (command === program) continue
    command.hook('preAction', (current) => {
      host.checkCommand([current.parent ?? program, current].map((each) => each.name()))
      host.protectMemory()
      // Options before the command's name belong to it, too.
      current.setOptionValue('settings', settingsOf(current))
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
    .description('show help for a command')
    .action((names: readonly string[]) => {
      let command = program
      const own = translateWords(names, 0)
      if (isOtherPair(own)) throw unknownCommand(own, program)
      for (const [index, name] of own.entries()) {
        const next = command.commands.find((each) => each.name() === name || each.aliases().includes(name))
        if (next === undefined) throw unknownCommand(own.slice(index), command)
        command = next
      }
      command.outputHelp()
    })
}
