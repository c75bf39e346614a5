import { formatImageName, parseImageName } from '../sources/index.ts'

/** A digest stands for the same for ever, so that nobody needs to be asked. */
export function isPinned(name: string): boolean {
  const parsed = parseImageName(name)
  return parsed.transport === 'docker' && parsed.reference.digest !== undefined
}

/** Tells whether a text may be the start of an image's digest. */
export function isDigestLike(text: string): boolean {
  return /^(?:sha256:)?[0-9a-f]{6,64}$/.test(text) && !text.includes('/')
}

/** Returns the name under which the store knows what a user writes. */
export function nameInStore(text: string): string {
  return formatImageName(parseImageName(text))
}
