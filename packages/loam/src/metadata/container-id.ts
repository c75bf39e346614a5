import { LoamError } from '../errors/index.ts'

declare const brand: unique symbol

/** The id of a container, checked: `web`, or `web/sidecar` for one that is nested in `web`. */
export type ContainerId = string & {
  /** Set only by `parseContainerId`. */
  readonly [brand]: 'ContainerId'
}

const PART = /^[a-zA-Z0-9][a-zA-Z0-9_.+-]{0,127}$/
const MAX_PART_LENGTH = 128
const MAX_DEPTH = 16

/** Checks the id of a container: parts of letters, digits and `_.+-`, joined by `/` if one container is nested in another. @throws ID_INVALID */
export function parseContainerId(id: string): ContainerId {
  if (isContainerId(id)) return id
  const parts = id.split('/')
  throw new LoamError(
    'ID_INVALID',
    `invalid container ID ${JSON.stringify(id.slice(0, 200))}: ${faultOf(parts)}`,
    {
      hint: 'An ID consists of letters, digits and _.+- and starts with a letter or digit; a nested container is PARENT/CHILD.',
    },
  )
}

/** Returns whether a text is a valid container ID. */
export function isContainerId(id: string): id is ContainerId {
  const parts = id.split('/')
  return parts.length <= MAX_DEPTH && parts.every((part) => PART.test(part))
}

function faultOf(parts: readonly string[]): string {
  if (parts.length > MAX_DEPTH) return `it has ${parts.length} parts, the limit is ${MAX_DEPTH}`
  const long = parts.find((part) => part.length > MAX_PART_LENGTH)
  if (long !== undefined) return `a part of it has ${long.length} characters, the limit is ${MAX_PART_LENGTH}`
  return parts.includes('') ? 'a part of it is empty' : 'it has an invalid character'
}

/** Returns whether a name may be a part of an ID. */
export function isContainerPart(name: string): boolean {
  return PART.test(name)
}

/** Returns an id and those that it is nested in, outermost first. */
export function ancestorsOf(id: ContainerId): ContainerId[] {
  const parts = id.split('/')
  return parts.map((_part, index) => parts.slice(0, index + 1).join('/') as ContainerId)
}
