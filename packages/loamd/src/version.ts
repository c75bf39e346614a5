import { readFileSync } from 'node:fs'
import { ownExecutable } from 'loamfs/internal'

/** Returns the version of this package. */
export function readVersion(): string {
  const own = ownExecutable()?.read('package.json')
  const text = own ?? readFileSync(new URL('../package.json', import.meta.url))
  return (JSON.parse(Buffer.from(text).toString()) as { version: string }).version
}
