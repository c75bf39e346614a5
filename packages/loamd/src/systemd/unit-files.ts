import { createHash } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError } from 'loamfs'
import { isErrno, unlinkIfThere } from 'loamfs/internal'
import type { Unit } from './units.ts'

/** The first line of each file, which shows whether an administrator has changed it. */
const MARK = /^# Written by `loamd install`, sha256:([0-9a-f]{64})[^\n]*\n/

/** The file at the path of a unit. */
type State = 'absent' | 'same' | 'older' | 'changed'

export interface UnitFilesOptions {
  readonly directory: string
  /** Replace or remove files that were changed, too. */
  readonly force: boolean
}

/** Returns the text of a unit's file. */
export function unitFileText({ text }: Unit): string {
  return `# Written by \`loamd install\`, sha256:${digestOf(text)}: change it by \`systemctl edit\`.\n${text}`
}

/** Writes units, each atomically; leaves files that are up to date. Returns the paths of the written ones. @throws OUTPUT_EXISTS, and writes nothing then */
export function writeUnits(units: readonly Unit[], options: UnitFilesOptions): string[] {
  const states = statesOf(units, options)
  return states.flatMap(({ unit, path, state }) => {
    if (state === 'same') return []
    const draft = `${path}.new`
    writeFileSync(draft, unitFileText(unit), { mode: 0o644, flush: true })
    renameSync(draft, path)
    return [path]
  })
}

/** Removes units. Returns the paths of the removed ones. @throws OUTPUT_EXISTS, and removes nothing then */
export function removeUnits(units: readonly Unit[], options: UnitFilesOptions): string[] {
  return statesOf(units, options).flatMap(({ path }) => (unlinkIfThere(path) ? [path] : []))
}

function statesOf(units: readonly Unit[], { directory, force }: UnitFilesOptions) {
  const states = units.map((unit) => {
    const path = join(directory, unit.name)
    return { unit, path, state: stateOf(unit, path) }
  })
  const changed = states.filter(({ state }) => state === 'changed').map(({ path }) => path)
  if (changed.length === 0 || force) return states
  throw new LoamError('OUTPUT_EXISTS', `replace ${changed.join(' and ')}: changed since it was installed`, {
    hint: 'Move the changes to `systemctl edit`, which survives an installation, and repeat with --force.',
  })
}

function stateOf(unit: Unit, path: string): State {
  let found: string
  try {
    found = readFileSync(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 'absent'
    throw error
  }
  if (found === unitFileText(unit)) return 'same'
  const mark = MARK.exec(found)
  return mark !== null && digestOf(found.slice(mark[0].length)) === mark[1] ? 'older' : 'changed'
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
