import { join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { type ConfigurationInput, readConfiguration } from '../config/index.ts'
import type { Loam } from '../app/index.ts'
import { cancelable } from '../errors/index.ts'
import { completes } from './completion/values.ts'
import type { Host } from './host.ts'
import { Output, PROGRESS_MODES, type ProgressMode } from './output.ts'

/** The options that every command accepts, before or after its name. */
export interface GlobalOptions {
  readonly root?: string
  readonly state?: string
  readonly config?: string
  readonly json?: boolean
  readonly quiet?: boolean
  readonly progress?: ProgressMode
  /** Settings that were given as flags. */
  readonly settings?: Readonly<Record<string, string>>
}

/** One call of a command. */
export interface Session {
  readonly host: Host
  readonly output: Output
  readonly loam: Loam
  /** Fires when the user interrupts the command. */
  readonly signal: AbortSignal
  /** Called when another process, for example a container, handles signals from now on. */
  readonly letSignalsPass: () => void
}

/** Adds the options that every command has. */
export function addGlobalOptions(command: Command): Command {
  return command
    .addOption(
      completes(new Option('--root <dir>', 'directory of the store (default: /var/lib/loam)'), 'directories'),
    )
    .addOption(
      completes(
        new Option('--state <dir>', 'directory for bundles and sockets (default: /run/loam)'),
        'directories',
      ),
    )
    .addOption(
      completes(
        new Option('--config <file>', 'configuration file (default: /etc/loam/config.toml)'),
        'files',
      ),
    )
    .addOption(
      new Option(
        '--daemon <when>',
        'let loamd run the command: auto, never or require (default: auto)',
      ).choices(['auto', 'never', 'require']),
    )
    .option('--json', 'write results and errors as JSON')
    .option('-q, --quiet', 'write no progress and no advice')
    .addOption(
      new Option(
        '--progress <how>',
        'show progress as a drawing (tty), lines (plain), lines of JSON (json) or not (none) (default: auto)',
      ).choices(PROGRESS_MODES),
    )
}

/** Returns the option for the address of the daemon. */
export function socketOption(): Option {
  const help = "socket of loamd's own API (default: loamd.sock in the state directory)"
  return completes(new Option('--socket <path>', help), 'files')
}

/** Options of commands that ask the daemon themselves. */
export interface SocketOptions extends GlobalOptions {
  readonly socket?: string
}

/** Returns the address of the daemon, absolute. @throws CONFIG_INVALID */
export function socketOf(host: Host, options: SocketOptions): string {
  const { values } = readConfiguration(configurationInput(host, options))
  return resolve(host.cwd, options.socket ?? join(values.state, 'loamd.sock'))
}

/** Returns the settings that the command's flags give. */
export function configurationInput(host: Host, options: GlobalOptions): ConfigurationInput {
  const flags = { ...options.settings, root: options.root, state: options.state }
  return { flags, env: host.env, file: options.config, cwd: host.cwd, userId: host.userId }
}

/** Opens the store for one command, and closes it afterwards. */
export async function withSession<T>(
  host: Host,
  options: GlobalOptions,
  act: (session: Session) => Promise<T>,
): Promise<T> {
  const output = outputOf(host, options)
  const { signal, release } = host.watchSignals()
  try {
    return await cancelable(signal, 'run the command', async () => {
      await using loam = await host.openLoam({ ...configurationInput(host, options), signal })
      for (const warning of loam.store.configuration.warnings) output.warn(warning)
      const letSignalsPass = () => {
        output.endWork()
        release()
      }
      return await act({ host, output, loam, signal, letSignalsPass })
    })
  } finally {
    output.endWork()
    release()
  }
}

export function outputOf(host: Host, options: GlobalOptions): Output {
  const { json = false, quiet = false, progress } = options
  return new Output(host, { json, quiet, progress })
}
