import { spawn } from 'node:child_process'
import { Command, CommanderError, Option } from 'commander'
import { isLoamError } from 'loamfs'
import { endWithoutHandlers, protectMemory, redact } from 'loamfs/internal'
import { Daemon } from './daemon.ts'
import { Log, LOG_LEVELS, type LogLevel } from './log.ts'
import { readVersion } from './version.ts'

interface Flags {
  readonly root?: string
  readonly state?: string
  readonly grpcSocket: string
  readonly socket?: string
  readonly socketGroup?: string
  readonly config?: string
  readonly logLevel: LogLevel
  readonly remote: boolean
  readonly upperdirLabel?: boolean
  readonly mountOptions?: string
}

/** Runs the daemon until a signal stops it, and sets the exit status. */
export async function main(args: readonly string[]): Promise<void> {
  endWithoutHandlers()
  const program = createProgram()
  try {
    program.parse([...args], { from: 'user' })
  } catch (error) {
    process.exitCode = error instanceof CommanderError && error.exitCode === 0 ? 0 : 2
    return
  }
  const flags = program.opts<Flags>()
  const log = new Log(flags.logLevel)
  const stop = Promise.withResolvers<string>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop.resolve)
  try {
    protectMemory()
    await using daemon = await Daemon.start({
      flags: {
        root: flags.root,
        state: flags.state,
        socket_group: flags.socketGroup,
        upperdir_label: flags.upperdirLabel,
        mount_options: flags.mountOptions,
      },
      configFile: flags.config,
      socketPath: flags.grpcSocket,
      httpSocketPath: flags.socket,
      isRemote: flags.remote,
      env: process.env,
      log,
    })
    log.info('serving', {
      grpcSocket: flags.grpcSocket,
      socket: daemon.httpSocketPath,
      pid: process.pid,
    })
    notify('READY=1')
    log.info('stopping', { signal: await stop.promise })
    notify('STOPPING=1')
  } catch (error) {
    const hint = isLoamError(error) ? error.hint : undefined
    log.error('failed', { error: error instanceof Error ? error.message : String(error), hint })
    process.exitCode = 1
  }
}

function createProgram(): Command {
  return new Command('loamd')
    .description("Loam's daemon: a snapshotter for containerd.")
    .version(readVersion())
    .option('--root <dir>', 'directory of the store (default: /var/lib/loam)')
    .option('--state <dir>', 'directory for mounts and sockets (default: /run/loam)')
    .option('--grpc-socket <path>', "socket of containerd's API", '/run/loam/snapshotter.sock')
    .option('--socket <path>', "socket of Loam's own API (default: loamd.sock in the state directory)")
    .option('--socket-group <group>', "group whose members may use Loam's own API; this makes them root")
    .option('--config <file>', 'configuration file (default: /etc/loam/config.toml)')
    .addOption(new Option('--log-level <level>', 'log verbosity').choices(LOG_LEVELS).default('info'))
    .option('--upperdir-label', 'report the upper directory of a snapshot in a label')
    .option('--mount-options <options>', 'options of every overlay mount, for example volatile')
    .option('--no-remote', 'let containerd unpack all layers, even those identified by labels')
    .addHelpText(
      'after',
      `
In containerd's configuration:
  [proxy_plugins.loam]
    type = "snapshot"
    address = "/run/loam/snapshotter.sock"
and then: ctr images pull --snapshotter loam IMAGE`,
    )
    .configureOutput({
      writeErr: (text) => process.stderr.write(text.split('\n').map(redact).join('\n')),
    })
    .exitOverride()
}

/** Notifies systemd, if it has started this process. */
function notify(state: string): void {
  const { NOTIFY_SOCKET: socket, PATH: path } = process.env
  if (socket === undefined) return
  spawn('systemd-notify', [state], { stdio: 'ignore', env: { PATH: path, NOTIFY_SOCKET: socket } }).on(
    'error',
    () => undefined,
  )
}
