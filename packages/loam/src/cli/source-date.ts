import { LoamError } from '../errors/index.ts'
import type { Host } from './host.ts'

/**
 * Returns the time for what a command creates, in milliseconds, from the variable SOURCE_DATE_EPOCH (reproducible-builds.org); undefined if it is
 * not set. @throws USAGE
 */
export function sourceDateMs({ env }: Pick<Host, 'env'>): number | undefined {
  const text = env['SOURCE_DATE_EPOCH']
  if (text === undefined || text === '') return undefined
  if (/^\d{1,12}$/.test(text)) return Number(text) * 1000
  throw new LoamError('USAGE', `read SOURCE_DATE_EPOCH: ${JSON.stringify(text)} is not a number of seconds`, {
    hint: 'For example SOURCE_DATE_EPOCH=$(git log -1 --format=%ct).',
  })
}
