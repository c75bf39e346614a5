import { constants } from 'node:os'
import { LoamError } from '../errors/index.ts'

/** Annotation of a container's configuration with the signal that stops it (image-spec conversion.md). */
export const STOP_SIGNAL = 'org.opencontainers.image.stopSignal'

/** SIGRTMIN and SIGRTMAX of glibc and musl alike, as programs in containers count them. */
const REAL_TIME = { min: 34, max: 64 } as const
const MAX_SIGNAL = 64

/** Returns the number of a signal: `SIGTERM`, `term`, `15` or `SIGRTMIN+3`. @throws USAGE */
export function parseSignal(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, '')
  const number = /^\d{1,2}$/.test(name) ? Number(name) : (realTime(name) ?? named(name))
  if (number !== undefined && number >= 1 && number <= MAX_SIGNAL) return number
  throw new LoamError('USAGE', `send signal ${JSON.stringify(text)}: there is no such signal`, {
    hint: 'Give a name or a number: TERM, SIGKILL, 9.',
  })
}

/** Returns whether a text of an image names a signal. */
export function isSignal(text: string | undefined): text is string {
  try {
    return text !== undefined && parseSignal(text) > 0
  } catch {
    return false
  }
}

function named(name: string): number | undefined {
  return Object.entries(constants.signals).find(([each]) => each === `SIG${name}`)?.[1]
}

function realTime(name: string): number | undefined {
  const [, base, sign, count = '0'] = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name) ?? []
  if (base === undefined) return undefined
  const number = (base === 'MIN' ? REAL_TIME.min : REAL_TIME.max) + (sign === '-' ? -1 : 1) * Number(count)
  return number >= REAL_TIME.min && number <= REAL_TIME.max ? number : undefined
}
