// What tests keep between runs: in the checkout that they belong to, so that no other one's is taken for it.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder that scripts/fetch-test-tools.sh fills, too. */
const FOLDER = fileURLToPath(new URL('../../../.cache/test-tools', import.meta.url))

/** Returns the path of something that is kept, and makes the folder that it is in. */
export function testTool(...parts: readonly string[]): string {
  mkdirSync(FOLDER, { recursive: true })
  return join(FOLDER, ...parts)
}
