import type { Command } from 'commander'
import * as v from 'valibot'
import { OPERATIONS } from '../../api/index.ts'
import { LoamError } from '../../errors/index.ts'
import { check } from '../../image/index.ts'
import { askDaemon, type DaemonRequest } from '../ask-daemon.ts'
import type { Host } from '../host.ts'
import { addGlobalOptions, outputOf, type SocketOptions, socketOf, socketOption } from '../session.ts'

interface Flags extends SocketOptions {
  readonly stop?: boolean
}

const ProblemSchema = v.object({ detail: v.string(), hint: v.optional(v.string()) })

export function addUi(program: Command, host: Host): void {
  addGlobalOptions(program.command('ui'))
    .description('let loamd serve its web page on this machine, and print the address')
    .option('--stop', 'end serving it; the address is worth nothing afterwards')
    .addOption(socketOption())
    .action(async (flags: Flags) => {
      const socket = socketOf(host, flags)
      const output = outputOf(host, flags)
      if (flags.stop === true) {
        const { closed } = await ask(socket, OPERATIONS['ui.close'])
        output.result({ closed }, () => (closed ? 'The page is closed.' : 'The page was not open.'))
        return
      }
      const { address } = await ask(socket, OPERATIONS['ui.open'])
      output.result({ address }, () => address)
      output.note(
        'Keep this address secret: it allows to see the store and to remove images. `loam ui --stop` ends it.',
      )
    })
}

/** @throws DAEMON_UNAVAILABLE, and STORE_BUSY if the daemon refuses */
async function ask<Result>(
  socket: string,
  { result, ...request }: DaemonRequest & { readonly result: v.GenericSchema<unknown, Result> },
): Promise<Result> {
  const answer = await askDaemon(socket, request)
  if (typeof answer === 'string') {
    throw new LoamError('DAEMON_UNAVAILABLE', `ask loamd at ${socket}: ${answer}`, {
      hint: 'Start it with the same --state: `systemctl start loamd`, or `loamd`.',
    })
  }
  const what = `answer of ${socket}`
  if (answer.status === 200) return check(result, answer.body, what)
  const { detail, hint } = check(ProblemSchema, answer.body, what)
  throw new LoamError('STORE_BUSY', detail, { hint })
}
