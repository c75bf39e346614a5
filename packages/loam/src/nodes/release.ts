import { LoamError } from '../errors/index.ts'

/** A release of containerd or Docker. */
export interface Release {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

const VERSION = /^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?![\d.])/

/** Parses a version such as `1.6.20~ds1`, `v2.1` or `2.1.9+unknown`. @throws USAGE */
export function parseRelease(version: string): Release {
  const match = VERSION.exec(version)
  if (match === null) {
    throw new LoamError('USAGE', `read version ${JSON.stringify(version)}: expected two or three numbers`, {
      hint: 'For example 1.6.20 or 2.1.',
    })
  }
  const [, major, minor, patch = '0'] = match
  return { major: Number(major), minor: Number(minor), patch: Number(patch) }
}
