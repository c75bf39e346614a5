import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { readConfiguration } from 'loamfs'
import { containerdConfig, dockerConfig, hostPlatform, SNAPSHOTTER_SOCKET } from 'loamfs/internal'

/** Version whose configuration is written where no containerd is installed. */
const NEWEST_TRIED = '2.1'

interface ConfigureFlags {
  readonly containerdVersion?: string
  readonly grpcSocket: string
  readonly root?: string
  readonly config?: string
  readonly differ?: boolean
}

/** The context of the command. */
export interface ConfigureContext {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly write: (text: string) => void
}

/** Adds the command that writes the configuration of clients. */
export function addConfigure(program: Command, { env, write }: ConfigureContext): void {
  const configure = program.command('configure').description('write the configuration of a client for Loam')
  const print = () =>
    new Option('--print', 'write it to standard output, and change no file').makeOptionMandatory()
  configure
    .command('containerd')
    .description('lines for config.toml of containerd')
    .addOption(print())
    .option('--containerd-version <version>', 'version to write it for (default: the installed one)')
    .option('--grpc-socket <path>', "socket of containerd's API", SNAPSHOTTER_SOCKET)
    .option('--root <dir>', 'directory of the store (default: /var/lib/loam)')
    .option('--config <file>', 'configuration file of Loam (default: /etc/loam/config.toml)')
    .option(
      '--differ',
      'let containerd fetch layers, and Loam take them from its content store (containerd 1.7)',
    )
    .action(({ containerdVersion, grpcSocket, root, config, differ }: ConfigureFlags) => {
      const { values } = readConfiguration({ flags: { root }, file: config, env })
      const setup = {
        version: containerdVersion ?? installedVersion(env) ?? NEWEST_TRIED,
        socket: resolve(grpcSocket),
        root: values.root,
        platform: hostPlatform(),
        isDiffer: differ === true,
      }
      write(containerdConfig(setup))
    })
  configure
    .command('docker')
    .description('daemon.json of Docker; containerd needs its configuration, too')
    .addOption(print())
    .action(() => {
      write(dockerConfig())
    })
}

/** Returns the version of the containerd on the PATH, for example `1.6.20~ds1`. */
function installedVersion(env: ConfigureContext['env']): string | undefined {
  const { stdout } = spawnSync('containerd', ['--version'], { encoding: 'utf8', env: { ...env } })
  return / v?(\d+\.\d+\.\d+\S*)/.exec(stdout ?? '')?.[1]
}
