import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../bin/loam.cjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'loam-broken-text-'))

after(() => {
  rmSync(folder, { recursive: true })
})

/** Runs a script in which `$0` is the command, and `$b` a byte that is not UTF-8. */
function run(script: string) {
  const { status, stderr } = spawnSync('sh', ['-c', `b=$(printf '\\351'); ${script}`, PROGRAM], {
    encoding: 'utf8',
    cwd: folder,
    env: { ...process.env, LOAM_DAEMON: 'never', LOAM_ROOT: join(folder, 'root') },
  })
  return { status, stderr }
}

describe('text that is not UTF-8', () => {
  it('is refused in an argument, in a variable that Loam uses, and in the working directory', () => {
    for (const [script, what] of [
      ['"$0" cp "web:/caf$b" -', 'the argument'],
      ['"$0" export --format tar web "x-$b.tar"', 'the argument'],
      ['LOAM_ROOT="$PWD/$b" "$0" ps', 'the variable LOAM_ROOT'],
      ['HOME="$PWD/$b" "$0" ps', 'the variable HOME'],
      ['XDG_RUNTIME_DIR="$PWD/$b" "$0" ps', 'the variable XDG_RUNTIME_DIR'],
      ['DOCKER_CONFIG="$PWD/$b" "$0" ps', 'the variable DOCKER_CONFIG'],
      ['mkdir "$b" "\uFFFD"; cd "$b"; "$0" export --format tar web x.tar', 'the working directory'],
    ] as const) {
      const { status, stderr } = run(script)
      assert.equal(status, 2, script)
      assert.match(stderr, new RegExp(`^loam: read ${what}.*: it is not UTF-8\n$`))
    }
    assert.ok(!readdirSync(folder).includes('x-\uFFFD.tar'))
  })

  it('is no matter in other variables, and the character that stands for it is text', () => {
    for (const name of ['OTHER', 'XDG_SESSION_DESKTOP'])
      assert.equal(run(`${name}="$b" "$0" config`).status, 0)
    assert.equal(run('mkdir "y$b"; cd "y$b"; "$0" ps').status, 0)
    assert.doesNotMatch(run('"$0" cp "web:/caf\uFFFD" -').stderr, /UTF-8/)
  })
})
