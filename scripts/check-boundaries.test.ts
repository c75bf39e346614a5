import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findViolations } from './check-boundaries.ts'

const violations = (file: string, text: string) => findViolations(file, text).length

test('imports along the flow and through index.ts are allowed', () => {
  assert.equal(
    violations('layers/x.ts', "import { a } from '../tree/index.ts'\nimport { b } from './y.ts'\n"),
    0,
  )
  assert.equal(violations('index.ts', "export { a } from './app/index.ts'\n"), 0)
})

test('an import against the flow, past an index, of a sibling, or into an unknown folder is found', () => {
  assert.equal(violations('tree/x.ts', "import { a } from '../layers/index.ts'\n"), 1)
  assert.equal(violations('layers/x.ts', "import {\n  a,\n} from '../tree/file-tree.ts'\n"), 1)
  assert.equal(violations('backends/copy/x.ts', "import { a } from '../overlay/y.ts'\n"), 1)
  assert.equal(violations('backends/copy/x.ts', "import { a } from '../backend.ts'\n"), 0)
  assert.equal(violations('utils/x.ts', ''), 1)
  assert.equal(violations('layers/x.ts', "const a = await import('../app/index.ts')\n"), 1)
})

test('a room that runs in a worker is known to others by its types alone', () => {
  assert.equal(violations('layers/x.ts', "import type { A } from '../transform/index.ts'\n"), 0)
  assert.equal(violations('transform/x.ts', "import { a } from './y.ts'\n"), 0)
  assert.equal(violations('transform/index.ts', "export type { A } from './y.ts'\n"), 0)
  assert.equal(violations('layers/x.ts', "import { a } from '../transform/index.ts'\n"), 1)
  assert.equal(violations('layers/x.ts', "import { type A, a } from '../transform/index.ts'\n"), 1)
  assert.equal(violations('layers/x.ts', "const a = await import('../transform/index.ts')\n"), 1)
  assert.equal(violations('transform/index.ts', "export { a } from './y.ts'\n"), 1)
})

test('a pure room that touches the world, and foreign calls outside of linux, are found', () => {
  assert.equal(violations('tree/x.ts', "import { readFileSync } from 'node:fs'\n"), 1)
  assert.equal(violations('image/x.ts', "import { createHash } from 'node:crypto'\n"), 0)
  assert.equal(violations('layers/x.ts', "import { spawn } from 'node:child_process'\n"), 1)
  assert.equal(violations('layers/x.ts', "export * from 'koffi'\n"), 1)
})

test("a lock's file that is removed past its lock is found", () => {
  assert.equal(violations('layers/x.ts', "unlinkIfThere(lockPath(paths, 'layer', diffId))\n"), 1)
  assert.equal(violations('layers/x.ts', 'unlinkIfThere(this.#lock.path)\n'), 1)
  assert.equal(violations('layers/x.ts', 'unlinkSync(containerLock(paths, id))\n'), 1)
  assert.equal(violations('layers/x.ts', 'lock.remove()\nunlinkIfThere(layer.mapPath)\n'), 0)
})
