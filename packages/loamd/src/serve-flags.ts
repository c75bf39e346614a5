import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { SNAPSHOTTER_SOCKET } from 'loamfs/internal'
import { LOG_LEVELS, type LogLevel } from './log.ts'

/** The options of the daemon's command line. */
export interface ServeFlags {
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
  readonly containerdSocket?: string
  readonly csiSocket?: string
}

const DEFAULT_LOG_LEVEL: LogLevel = 'info'

export function addServeOptions(command: Command): Command {
  return command
    .option('--root <dir>', 'directory of the store (default: /var/lib/loam)')
    .option('--state <dir>', 'directory for mounts and sockets (default: /run/loam)')
    .option('--grpc-socket <path>', "socket of containerd's API", SNAPSHOTTER_SOCKET)
    .option('--socket <path>', "socket of Loam's own API (default: loamd.sock in the state directory)")
    .option('--socket-group <group>', "group whose members may use Loam's own API; this makes them root")
    .option('--config <file>', 'configuration file (default: /etc/loam/config.toml)')
    .addOption(
      new Option('--log-level <level>', 'log verbosity').choices(LOG_LEVELS).default(DEFAULT_LOG_LEVEL),
    )
    .option('--upperdir-label', 'report the upper directory of a snapshot in a label')
    .option('--mount-options <options>', 'options of every overlay mount, for example volatile')
    .option(
      '--containerd-socket <path>',
      'socket of containerd, whose layers the diff API takes (default: /run/containerd/containerd.sock)',
    )
    .option('--csi-socket <path>', 'socket of the CSI driver for the kubelet (default: no driver)')
    .option('--no-remote', 'let containerd unpack all layers, even those identified by labels')
}

/** Returns the settings that flags give. */
export function settingsOf(flags: ServeFlags): Readonly<Record<string, string | boolean | undefined>> {
  return {
    root: flags.root,
    state: flags.state,
    socket_group: flags.socketGroup,
    upperdir_label: flags.upperdirLabel,
    mount_options: flags.mountOptions,
    containerd_socket: flags.containerdSocket,
    csi_socket: flags.csiSocket,
  }
}

/** Returns the words of a command line with these flags; paths become absolute. */
export function wordsOf(flags: ServeFlags): string[] {
  const { root, state, grpcSocket, socket, socketGroup, config, logLevel, mountOptions } = flags
  const paths = {
    root,
    state,
    socket,
    config,
    'containerd-socket': flags.containerdSocket,
    'csi-socket': flags.csiSocket,
  }
  const texts = { 'socket-group': socketGroup, 'mount-options': mountOptions }
  return [
    ...Object.entries(paths).flatMap(([name, path]) => word(name, path && resolve(path))),
    ...word('grpc-socket', grpcSocket === SNAPSHOTTER_SOCKET ? undefined : resolve(grpcSocket)),
    ...Object.entries(texts).flatMap(([name, text]) => word(name, text)),
    ...word('log-level', logLevel === DEFAULT_LOG_LEVEL ? undefined : logLevel),
    ...(flags.upperdirLabel === true ? ['--upperdir-label'] : []),
    ...(flags.remote ? [] : ['--no-remote']),
  ]
}

function word(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`--${name}=${value}`]
}
