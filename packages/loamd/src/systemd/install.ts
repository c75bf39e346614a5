import { spawnSync } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError, readConfiguration } from 'loamfs'
import { IMAGE_SERVICE_SOCKET, isRoot, ownExecutable } from 'loamfs/internal'
import { type ServeFlags, settingsOf, wordsOf } from '../serve-flags.ts'
import { removeUnits, unitFileText, writeUnits } from './unit-files.ts'
import { createUnits, type Unit } from './units.ts'

/** Directory of an administrator's units (systemd.unit(5)). */
const UNIT_DIRECTORY = '/etc/systemd/system'
/** Exists where systemd runs (sd_booted(3)). */
const SYSTEMD_RUNS = '/run/systemd/system'

export interface InstallFlags extends ServeFlags {
  /** Show the units and write nothing. */
  readonly print?: boolean
  /** Write to this directory without calling systemd: for machine images. */
  readonly directory?: string
  readonly force?: boolean
}

/** The context of an installation. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly write: (line: string) => void
  readonly warn: (line: string) => void
}

/** Writes the daemon's units, and lets systemd enable and start them. @throws PERMISSION_DENIED, UNSUPPORTED_SYSTEM, OUTPUT_EXISTS, CONFIG_INVALID */
export function install(flags: InstallFlags, { env, write, warn }: Surroundings): void {
  const units = createUnits(unitOptions(flags))
  for (const variable of settingVariables(flags, env))
    warn(
      `${variable} has no effect: systemd starts loamd without it. Give an option, or write the setting to the configuration file.`,
    )
  const { directory = UNIT_DIRECTORY, force = false } = flags
  if (flags.print === true) {
    for (const unit of units) write(`# ${join(directory, unit.name)}\n${unitFileText(unit)}`)
    return
  }
  if (flags.directory === undefined) requireSystemd('install')
  const written = writeUnits(units, { directory, force })
  for (const path of written) write(`wrote ${path}`)
  if (flags.directory !== undefined) return
  systemctl('daemon-reload')
  systemctl('enable', '--now', ...units.map(({ name }) => name))
  write(
    written.length === 0
      ? 'loamd is installed and enabled; nothing has changed'
      : 'loamd is enabled. If it ran before: systemctl restart loamd.service',
  )
}

/** Stops the daemon and removes its units. The store and its mounts stay. @throws as `install` */
export function uninstall(flags: InstallFlags, { write }: Pick<Surroundings, 'write'>): void {
  const units = createUnits(unitOptions(flags))
  const { directory = UNIT_DIRECTORY, force = false } = flags
  if (flags.directory === undefined) {
    requireSystemd('uninstall')
    const present = units.filter(({ name }) => existsSync(join(directory, name)))
    if (present.length > 0) systemctl('disable', '--now', ...namesOf(present))
  }
  for (const path of removeUnits(units, { directory, force })) write(`removed ${path}`)
  if (flags.directory === undefined) systemctl('daemon-reload')
}

/** Bounds the memory for new objects (MiB): by itself V8 takes 50 MiB for it when many calls come, and gives none back. */
const NODE_OPTIONS = ['--max-semi-space-size=4']

function namesOf(units: readonly Unit[]): string[] {
  return units.map(({ name }) => name)
}

function unitOptions(flags: InstallFlags) {
  const program = ownExecutable()?.program ?? realpathSync(process.argv[1] ?? '')
  if (program.includes('/_npx/')) {
    throw new LoamError('USAGE', `install ${program}: npx removes it from there`, {
      hint: 'Install the package first: npm install --global loamd',
    })
  }
  // As systemd starts it: as root, and without the environment of this process.
  const { values } = readConfiguration({ flags: settingsOf(flags), file: flags.config, userId: 0 })
  return {
    command: [...programWords(program), ...wordsOf(flags)],
    root: values.root,
    state: values.state,
    grpcSocket: flags.grpcSocket,
    socket: flags.socket ?? join(values.state, 'loamd.sock'),
    socketGroup: values.socket_group,
    imageSocket: join(values.state, IMAGE_SERVICE_SOCKET),
  }
}

/** Returns the variables of this process that settings would come from if it were the daemon. */
function settingVariables(flags: InstallFlags, env: Surroundings['env']): string[] {
  const { origins } = readConfiguration({ flags: settingsOf(flags), file: flags.config, env, userId: 0 })
  return [...new Set(Object.values(origins))].filter((origin) => env[origin] !== undefined)
}

/** Returns the words that start the daemon. An executable has its options for Node inside. */
function programWords(program: string): string[] {
  return ownExecutable() !== undefined ? [program] : [process.execPath, ...NODE_OPTIONS, '--', program]
}

function requireSystemd(act: string): void {
  if (!existsSync(SYSTEMD_RUNS)) {
    throw new LoamError('UNSUPPORTED_SYSTEM', `${act} units: systemd does not run here`, {
      hint: 'Show the units with --print, write them to a directory with --directory, or start loamd another way.',
    })
  }
  if (!isRoot()) {
    throw new LoamError('PERMISSION_DENIED', `${act} units in ${UNIT_DIRECTORY}: this needs root`, {
      hint: 'Run it as root, or see what it does with --print.',
    })
  }
}

function systemctl(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('systemctl', args, { encoding: 'utf8' })
  if (status === 0) return
  throw new LoamError('PROGRAM_FAILED', `systemctl ${args.join(' ')}: ${error?.message ?? stderr.trim()}`, {
    hint: 'The units are written: journalctl -u loamd.service says what the daemon reports.',
  })
}
