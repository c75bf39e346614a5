import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { captureHost } from '../../../test/support/captured-host.ts'
import { openLoam } from '../../index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../testing/index.ts'
import { runCommandLine } from '../main.ts'
import { createProgram } from '../program.ts'
import { planCompletion } from './plan.ts'
import { completionScript } from './scripts.ts'

const program = createProgram('1', captureHost('/'), () => undefined)
const plan = (...words: string[]) => planCompletion(program, words)
const wordsOf = (...words: string[]) => plan(...words).candidates.map(({ word }) => word)

describe('the completion of a command line', () => {
  test('completes commands and subcommands, and no hidden ones', () => {
    assert.deepEqual(wordsOf('exp'), ['export'])
    assert.deepEqual(wordsOf('--root', 'pull', 'exp'), ['export'])
    assert.ok(wordsOf('snapshot', '').includes('commit'))
    assert.deepEqual(wordsOf('help', 'exp'), ['export'])
    assert.ok(!wordsOf('').some((word) => word.startsWith('_')))
  })

  test('completes options of the command, and settings where a letter says which', () => {
    assert.deepEqual(wordsOf('export', '--fo'), ['--format', '--force'])
    assert.ok(!wordsOf('pull', '--').includes('--docker_registry'))
    assert.deepEqual(wordsOf('pull', '--docker_r'), ['--docker_registry'])
  })

  test('completes the value of an option, behind a space or an equals sign', () => {
    assert.deepEqual(wordsOf('export', '--format', 'e'), ['erofs', 'ext4'])
    const { prefix, candidates } = plan('export', '--format=ex')
    assert.deepEqual([prefix, candidates.map(({ word }) => word)], ['--format=', ['ext4']])
    assert.deepEqual(plan('--config', '').kinds, ['files'])
    assert.deepEqual(plan('images', '--root', '').kinds, ['directories'])
  })

  test('knows what an argument names, by its name in the help', () => {
    assert.deepEqual(plan('run', '').kinds, ['images'])
    assert.deepEqual(plan('rmi', 'a', '').kinds, ['images'])
    assert.deepEqual(plan('destroy', 'a', '').kinds, ['containers'])
    assert.deepEqual(plan('inspect', '').kinds, ['images', 'containers'])
    assert.deepEqual(plan('export', 'a', '').kinds, ['files'])
    assert.deepEqual(plan('push', 'a', 'b', '').kinds, [])
  })

  test('completes nothing behind the image of `run`, where the words are those of a container', () => {
    assert.deepEqual(plan('run', 'x', '--'), { typed: '--', prefix: '', candidates: [], kinds: [] })
    assert.deepEqual(wordsOf('run', 'x', 'sh', '--r'), [])
  })
})

test('names of images and containers come from the store, without the prefix that users leave out', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-completion-'))
  try {
    const [root, state] = [join(folder, 'root'), join(folder, 'state')]
    writeOciLayout(join(folder, 'layout'), { x: buildImage({ tars: [buildTar([{ name: 'a' }])] }) })
    await using loam = await openLoam({ flags: { root, state }, env: {} })
    for (const name of ['docker.io/library/debian:12', 'example.test:5000/app:v1'])
      await loam.images.put(`oci:${folder}/layout:x`, name)
    await loam.provision('debian:12', { id: 'web', backend: 'copy' })
    const complete = async (...words: string[]) => {
      const host = captureHost(folder)
      await runCommandLine(['__complete', '--', '--root', root, '--state', state, ...words], '1', host)
      return host.said.stdout.split('\n').map((line) => line.replace(/\t.*/, ''))
    }
    assert.deepEqual(await complete('rmi', 'd'), ['debian:12', 'docker.io/library/debian:12', ''])
    assert.deepEqual(await complete('run', 'example.test:5'), ['example.test:5000/app:v1', ''])
    for (const command of ['destroy', 'exec', 'logs', 'stop', 'start', 'rm'])
      assert.deepEqual(await complete(command, ''), ['web', ''], command)
    assert.deepEqual(await complete('exec', 'web', ''), [''])
    assert.deepEqual(await complete('cp', ''), ['web:', ':files', ''])
    assert.deepEqual(await complete('export', 'web', 'x'), [':files', ''])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('bash completes behind the colons and equals signs at which it splits words', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-completion-'))
  try {
    const asked = join(folder, 'loam')
    writeFileSync(
      asked,
      '#!/bin/sh\nprintf "%s|" "$@" >> "$0.asked"\nprintf "example.test:5000/app:v1\\tabout\\n"\n',
      {
        mode: 0o755,
      },
    )
    const script = `${completionScript('bash')}
COMP_LINE='loam run example.test:50'; COMP_POINT=\${#COMP_LINE}
COMP_WORDS=(${asked} run example.test : 50); COMP_CWORD=4
_loam; printf '%s\\n' "\${COMPREPLY[@]}"; cat ${asked}.asked`
    // Words of the line are found by their lengths: the program has another path here.
    const line = script.replace("'loam run", `'${asked} run`)
    assert.equal(
      execFileSync('bash', ['-c', line], { encoding: 'utf8' }),
      '5000/app:v1\n__complete|--|run|example.test:50|',
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
