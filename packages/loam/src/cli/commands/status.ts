import type { Command } from 'commander'
import type { DaemonStatus } from '../../api/index.ts'
import { askDaemonStatus } from '../daemon-status.ts'
import { formatAge } from '../format.ts'
import type { Host } from '../host.ts'
import { addGlobalOptions, outputOf, type SocketOptions, socketOf, socketOption } from '../session.ts'

/** Exit status of `systemctl status` for a service that does not run. */
const EXIT_NOT_RUNNING = 3

export function addStatus(program: Command, host: Host): void {
  addGlobalOptions(program.command('status'))
    .description(
      'show whether loamd runs, since when, where it listens and what it does; status 3 without it',
    )
    .addOption(socketOption())
    .action(async (flags: SocketOptions) => {
      const socket = socketOf(host, flags)
      const output = outputOf(host, flags)
      const status = await askDaemonStatus(socket)
      if (typeof status === 'string') {
        output.result({ isRunning: false, socket, reason: status }, () => [
          `loamd does not answer at ${socket}: ${status}`,
        ])
        host.exitStatus = EXIT_NOT_RUNNING
        return
      }
      output.result({ isRunning: true, ...status }, () => describe(status))
    })
}

function describe({ version, pid, node, root, startedAtMs, sockets, requests }: DaemonStatus): string[] {
  return [
    `loamd      ${version}, process ${pid}, Node ${node}, started ${formatAge(startedAtMs)}`,
    `store      ${root}`,
    ...sockets.map(({ name, path }) => `socket     ${path} (${name})`),
    ...(requests.length === 0 ? ['requests   none in progress'] : []),
    ...requests.map(
      (each) =>
        `request    ${each.operation}, started ${formatAge(each.startedAtMs)}, id ${each.id ?? 'unknown'}`,
    ),
  ]
}
