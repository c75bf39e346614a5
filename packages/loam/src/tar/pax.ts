import { LoamError } from '../errors/index.ts'

/** One `LENGTH KEY=VALUE\n` record. Keys are latin1 text, values bytes. */
export interface PaxRecord {
  readonly key: string
  readonly value: Buffer
}

/**
 * Parses the body of a pax header (POSIX pax, "pax Extended Header"). Keys may repeat: GNU sparse 0.0 does it,
 * and otherwise the last one counts.
 * @throws TAR_INVALID
 */
export function parsePaxRecords(body: Buffer): PaxRecord[] {
  const records: PaxRecord[] = []
  let start = 0
  while (start < body.length) {
    const space = body.indexOf(32, start)
    const digits = space < 0 ? '' : body.toString('latin1', start, space)
    if (!/^[1-9]\d{0,7}$/.test(digits)) throw malformed('its length is not a number')
    const end = start + Number(digits)
    if (end > body.length || body[end - 1] !== 10) throw malformed('its length is wrong')
    const equals = body.indexOf(61, space + 1)
    if (equals < 0 || equals >= end || equals === space + 1) throw malformed('it has no key')
    records.push({
      key: body.toString('latin1', space + 1, equals),
      value: body.subarray(equals + 1, end - 1),
    })
    start = end
  }
  return records
}

function malformed(why: string): LoamError {
  return new LoamError('TAR_INVALID', `read tar: malformed pax record: ${why}`)
}

/** Formats one record; its length counts itself. @throws TAR_INVALID for a key that holds `=`: readers end a key at the first one */
export function formatPaxRecord(key: string, value: Uint8Array | string): Buffer {
  if (key.includes('=')) throw new LoamError('TAR_INVALID', `write tar: the name ${key} holds =`)
  const body = Buffer.concat([
    Buffer.from(` ${key}=`, 'latin1'),
    typeof value === 'string' ? Buffer.from(value) : value,
    Buffer.from('\n'),
  ])
  let length = body.length + 1
  while (String(length).length + body.length !== length) length = String(length).length + body.length
  return Buffer.concat([Buffer.from(String(length)), body])
}
