import { type Command, Option } from 'commander'
import { type ActivityEvent, type Attributes, meansOperation, OPERATION_NAMES } from '../../activity/index.ts'
import { findNear, LoamError } from '../../errors/index.ts'
import type { Host } from '../host.ts'
import { formatBytes } from '../format.ts'
import { addGlobalOptions, outputOf, type SocketOptions, socketOf, socketOption } from '../session.ts'
import { completes } from '../completion/values.ts'

interface Flags extends SocketOptions {
  readonly operation?: readonly string[]
  readonly kind?: readonly ActivityEvent['kind'][]
}

/** Progress is for who asked for the operation. */
const DEFAULT_KINDS: readonly ActivityEvent['kind'][] = ['start', 'end']
const OPERATION_WIDTH = 22
/** Attributes whose number is a size. */
const SIZES = /Bytes$/

export function addEvents(program: Command, host: Host): void {
  addGlobalOptions(program.command('events'))
    .description('show operations of loamd as they begin and end, until a signal')
    .addOption(
      completes(
        new Option('--operation <name...>', 'only these: images.pull, or all of images'),
        OPERATION_NAMES,
      ),
    )
    .addOption(
      new Option('--kind <kind...>', 'only these events (default: start and end)').choices([
        'start',
        'progress',
        'end',
      ]),
    )
    .addOption(socketOption())
    .action(async (flags: Flags) => {
      for (const word of flags.operation ?? []) requireOperation(word)
      // A reader that is slow makes the daemon drop events, and not keep them.
      host.requireOwnProcess()
      const socket = socketOf(host, flags)
      await follow(socket, host, flags)
    })
}

/** The events of an operation that there is not would be waited for forever. @throws USAGE */
function requireOperation(word: string): void {
  if (meansOperation(word)) return
  const near = findNear(word, OPERATION_NAMES)
  const kinds = new Set(OPERATION_NAMES.map((name) => name.split('.')[0]))
  throw new LoamError('USAGE', `read --operation: there is no operation ${word}`, {
    hint:
      near.length > 0
        ? `Did you mean ${near.join(' or ')}?`
        : `Give a name such as images.pull, or one of ${[...kinds].join(', ')}.`,
  })
}

async function follow(socket: string, host: Host, flags: Flags): Promise<void> {
  // No other command needs it.
  const { connectLoam } = await import('../../client/index.ts')
  const output = outputOf(host, flags)
  const { signal, release } = host.watchSignals()
  const { operation: operations, kind: kinds = DEFAULT_KINDS } = flags
  try {
    await using loam = await connectLoam({ socket, signal })
    const onDropped = (dropped: number) => {
      output.line({ dropped }, () => `${dropped} events are left out: they were not read in time`)
    }
    for await (const event of loam.events({ operations, kinds }, { signal, onDropped }))
      output.line(event, () => describe(event))
  } catch (error) {
    // A signal is how this command ends.
    if (!signal.aborted) throw error
  } finally {
    release()
  }
}

function describe(event: ActivityEvent): string {
  const time = new Date(event.timeMs).toTimeString().slice(0, 8)
  return `${time} ${event.operation.padEnd(OPERATION_WIDTH)} ${describeKind(event)}`
}

function describeKind(event: ActivityEvent): string {
  switch (event.kind) {
    case 'start':
      return ['began', ...wordsOf(event.attributes)].join(' ')
    case 'progress':
      return JSON.stringify(event.progress)
    case 'end': {
      const { error, durationMs, attributes } = event
      const seconds = (durationMs / 1000).toFixed(durationMs < 100 ? 3 : 1)
      const result = error === undefined ? `done in ${seconds} s` : `failed after ${seconds} s:`
      const words = error === undefined ? wordsOf(attributes) : [error.code, error.message]
      return [result, ...words].join(' ')
    }
  }
}

function wordsOf(attributes: Attributes): string[] {
  return Object.entries(attributes).flatMap(([name, value]) => {
    if (value === undefined) return []
    const shown = typeof value === 'number' && SIZES.test(name) ? formatBytes(value) : String(value)
    return [`${name}=${shown}`]
  })
}
