import { Command } from 'commander'
import { redact, writeStandardError, writeStandardOutput } from 'loamfs/internal'
import { addConfigure } from './configure.ts'
import { serve } from './serve.ts'
import { addServeOptions, type ServeFlags } from './serve-flags.ts'
import { install, type InstallFlags, uninstall } from './systemd/install.ts'
import { readVersion } from './version.ts'

/** Creates the command line of the daemon. */
export function createProgram(): Command {
  const program = addServeOptions(new Command('loamd'))
    .description("Loam's daemon: its API, and a snapshotter for containerd.")
    .version(readVersion())
    .enablePositionalOptions()
    .helpCommand(false)
    .addHelpText(
      'after',
      `
loamd configure containerd --print writes the lines for containerd's configuration.
After a restart of containerd: ctr images pull --snapshotter loam IMAGE`,
    )
    .configureOutput({
      writeOut: writeStandardOutput,
      writeErr: (text) => {
        writeStandardError(text.split('\n').map(redact).join('\n'))
      },
    })
    .exitOverride()
    .action(async (flags: ServeFlags) => serve(flags))
  const surroundings = {
    env: process.env,
    write: (line: string) => {
      writeStandardOutput(`${line}\n`)
    },
    warn: (line: string) => {
      writeStandardError(`loamd: warning: ${line}\n`)
    },
  }
  addServeOptions(program.command('install'))
    .description('write units for systemd with these options, and start them')
    .option('--print', 'show the units and write nothing')
    .option('--directory <dir>', 'write the units to this directory, and ask no systemd')
    .option('--force', 'replace units that were changed, too')
    .action((flags: InstallFlags) => {
      install(flags, surroundings)
    })
  addServeOptions(program.command('uninstall'))
    .description('stop the daemon and remove its units; the store stays')
    .option('--directory <dir>', 'remove the units from this directory, and ask no systemd')
    .option('--force', 'remove units that were changed, too')
    .action((flags: InstallFlags) => {
      uninstall(flags, surroundings)
    })
  addConfigure(program, { env: process.env, write: writeStandardOutput })
  return program
}
