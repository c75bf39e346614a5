import * as v from 'valibot'
import { type ErrorCode, ERRORS, faultOfSocket, LoamError } from '../errors/index.ts'

const ProblemSchema = v.object({
  detail: v.string(),
  code: v.picklist(Object.keys(ERRORS) as ErrorCode[]),
  hint: v.optional(v.string()),
  details: v.optional(v.record(v.string(), v.union([v.string(), v.number(), v.boolean()])), {}),
})

const HINT = 'Start loamd (systemctl start loamd), or name its --state or --socket.'

/** Rebuilds the error of a problem document. */
export function readProblem(name: string, value: unknown): LoamError {
  const parsed = v.safeParse(ProblemSchema, value)
  if (!parsed.success) return new LoamError('INTERNAL', `${name}: the daemon answered with an unknown error`)
  const { code, detail, hint, details } = parsed.output
  return new LoamError(code, detail, { hint, details })
}

/** Errors of connecting: the daemon has not received the request. */
const NOT_ASKED: readonly (string | undefined)[] = ['ENOENT', 'ENOTDIR', 'ECONNREFUSED', 'EAGAIN']
/** Those that only clients of the daemon tell by words. */
const WHY: Readonly<Record<string, string>> = {
  ENOTDIR: 'no such socket',
  EAGAIN: 'too many clients wait for it',
}

/** The error for a daemon that could not be reached, or that has not answered. */
export function unavailable(name: string, socket: string, cause: NodeJS.ErrnoException): LoamError {
  if (cause.code === 'EACCES') {
    return new LoamError('PERMISSION_DENIED', `connect to loamd at ${socket}: ${faultOfSocket(cause)}`, {
      cause,
      hint: 'The socket is for root and for the group of the setting socket_group.',
    })
  }
  if (!NOT_ASKED.includes(cause.code)) return lost(name, socket, cause)
  return new LoamError(
    'DAEMON_UNAVAILABLE',
    `connect to loamd at ${socket}: ${WHY[cause.code ?? ''] ?? faultOfSocket(cause)}`,
    {
      cause,
      hint: HINT,
    },
  )
}

/** The error for a daemon that ended before it answered. */
export function lost(name: string, socket: string, cause?: unknown): LoamError {
  return new LoamError(
    'DAEMON_LOST',
    `${name}: loamd at ${socket} closed the connection before it answered`,
    {
      cause,
      hint: 'The operation may have completed. Start loamd again, which undoes unfinished operations, and retry.',
    },
  )
}

/** The daemon ended while its events were read. */
export function eventsEnded(socket: string, cause?: unknown): LoamError {
  return new LoamError('DAEMON_LOST', `read events of loamd at ${socket}: the daemon has ended`, {
    cause,
    hint: 'Start loamd again, then read its events again. Those in between are lost.',
  })
}

/** The error for a call after the end of the connections. */
export function closed(name: string): LoamError {
  return new LoamError('USAGE', `call ${name}: the store is closed`)
}

/** The error for a call whose signal has fired. */
export function canceled(name: string, signal: AbortSignal): LoamError {
  return new LoamError('CANCELED', `${name}: canceled`, { cause: signal.reason })
}
