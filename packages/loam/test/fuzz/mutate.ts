import type { Random } from '../faults/random.ts'

const INTERESTING = [0, 1, 7, 0x20, 0x2e, 0x2f, 0x30, 0x37, 0x39, 0x7f, 0x80, 0xff]

/** Returns bytes that differ from others in a few places. */
export function mutate(
  bytes: Buffer,
  random: Random,
  { others, words, maxBytes }: { others: readonly Buffer[]; words: readonly string[]; maxBytes: number },
): Buffer {
  let changed: Buffer = Buffer.from(bytes)
  const changes = 1 + random.below(random.next() < 0.7 ? 3 : 12)
  for (let change = 0; change < changes; change += 1) changed = changeOnce(changed, random, others, words)
  return changed.subarray(0, maxBytes)
}

function changeOnce(
  bytes: Buffer,
  random: Random,
  others: readonly Buffer[],
  words: readonly string[],
): Buffer {
  const at = random.below(bytes.length + 1)
  const insert = (part: Buffer) => Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at)])
  const over = (part: Buffer) => {
    const end = Math.min(bytes.length, at + part.length)
    part.copy(bytes, at, 0, end - at)
    return bytes
  }
  switch (random.below(9)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8))
      return bytes
    case 1:
      if (at < bytes.length) bytes[at] = random.pick(INTERESTING)
      return bytes
    case 2:
      return insert(Buffer.from([random.below(256)]))
    case 3: {
      const length = 1 + random.below(random.next() < 0.5 ? 4 : 600)
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    }
    case 4: {
      const part = bytes.subarray(at, at + 1 + random.below(600))
      return insert(part)
    }
    case 5:
      return words.length === 0 ? bytes : insert(Buffer.from(random.pick(words), 'latin1'))
    case 6:
      return words.length === 0 ? bytes : over(Buffer.from(random.pick(words), 'latin1'))
    case 7: {
      const other = random.pick(others)
      const from = random.below(other.length + 1)
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from)])
    }
    default: {
      const other = random.pick(others)
      const from = random.below(other.length + 1)
      return over(other.subarray(from, from + 1 + random.below(512)))
    }
  }
}

const VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  0.5,
  2 ** 53,
  '',
  'x',
  '..',
  'sha256:0',
  [],
  {},
  [[]],
  ['x'],
  { x: 1 },
  'a'.repeat(300),
]

/** Returns JSON with one value changed, removed or doubled; undefined for text that is not JSON. */
export function mutateJson(bytes: Buffer, random: Random): Buffer | undefined {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
  const holders: (unknown[] | Record<string, unknown>)[] = []
  const gather = (one: unknown): void => {
    if (typeof one !== 'object' || one === null) return
    holders.push(one as Record<string, unknown>)
    for (const child of Object.values(one)) gather(child)
  }
  gather(value)
  if (holders.length === 0) return undefined
  const holder = random.pick(holders)
  const keys = Object.keys(holder)
  const key = keys.length === 0 ? 'x' : random.pick(keys)
  const other = random.pick(holders)
  const record = holder as Record<string, unknown>
  const way = random.below(4)
  if (way === 0) delete record[key]
  else if (way === 1) record[key] = random.pick(VALUES)
  else if (way === 2) record[`${key}x`] = record[key]
  else record[key] = structuredClone(Object.values(other)[0] ?? null)
  return Buffer.from(JSON.stringify(value))
}
