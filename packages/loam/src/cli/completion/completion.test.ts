import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
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

  test('an option says what its value may be, and nothing is offered for a new ID, a size or a path of the container', () => {
    for (const [line, kinds] of [
      ['run -v ', ['mounted-files']],
      ['run --volume=', ['mounted-files']],
      ['run -itv ', ['mounted-files']],
      ['run --env-file ', ['files']],
      ['exec --env-file ', ['files']],
      ['run --mount type=bind,source=/e', ['paths']],
      ['run --mount type=image,source=', ['images']],
      ['run --network ns:', ['paths']],
      ['commit --base ', ['images']],
      ['index --output ', ['directories']],
      ['volume --id ', ['containers']],
      ['run --id ', []],
      ['run --name ', []],
      ['provision --id ', []],
      ['run -v /etc:/', []],
      ['run --workdir ', []],
      ['run --entrypoint ', []],
      ['run --memory ', []],
    ] as const)
      assert.deepEqual(plan(...line.split(' ')).kinds, kinds, line)
    for (const [line, words] of [
      ['run --network ', 'none host ns:'],
      ['run --net h', 'host'],
      ['run --backend e', 'erofs'],
      ['run -v /a:/b:', 'ro'],
      ['run --mount t', 'type= target='],
      ['run --mount type=', 'bind tmpfs image'],
      ['run --mount type=tmpfs,tar', 'target='],
      ['run --cap-add CAP_SYSL', 'CAP_SYSLOG'],
      ['run --security-opt seccomp=', 'unconfined'],
      ['kill -s HU', 'HUP'],
      ['kill -s SIGHU', 'SIGHUP'],
      ['events --operation images.untag', 'images.untag'],
      ['images --format ', 'table json'],
      ['ps --sort na', 'names'],
    ] as const)
      assert.equal(wordsOf(...line.split(' ')).join(' '), words, line)
    assert.deepEqual(plan('run', '--mount', 'type=bind,source=/e').prefix, 'type=bind,source=')
  })

  test('offers the keys of each list, which its help names', () => {
    for (const name of ['ps', 'images', 'tags']) {
      const options = program.commands.find((each) => each.name() === name)?.options ?? []
      for (const option of options.filter(({ long }) => long === '--filter' || long === '--sort')) {
        const keys = option.description.replace(/^[^:]*: /, '').split(', ')
        const offered = wordsOf(name, option.long ?? '', '').map((word) => word.replace(/=$/, ''))
        assert.deepEqual(
          [...new Set(offered)],
          keys.filter((key) => key !== ''),
          `${name} ${option.long}`,
        )
      }
    }
  })

  test('completes the words of docker and podman as the commands that they stand for', () => {
    assert.deepEqual(wordsOf('system', ''), ['df', 'info', 'events'])
    assert.deepEqual(wordsOf('--root', '/x', 'container', 'star'), ['start'])
    assert.deepEqual(plan('image', 'rm', '').kinds, ['images'])
    assert.deepEqual(plan('container', 'rm', 'a', '').kinds, ['containers'])
    assert.deepEqual(wordsOf('container', 'ls', '--sort', 'names:d'), ['desc'])
    assert.deepEqual(plan('run', '--pull', 'always', '').kinds, ['images'])
    assert.deepEqual(plan('volume', '').kinds, ['images'])
    assert.deepEqual(wordsOf('unshare', 'p'), [])
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
    assert.deepEqual(await complete('container', 'rm', ''), ['web', ''])
    assert.deepEqual(await complete('run', '--id', ''), [''])
    assert.deepEqual(await complete('run', '-v', 'la'), [':files', ':nospace', ''])
    for (const mount of ['type=bind,source=', 'type=bind,readonly,src=./'])
      assert.deepEqual(
        [
          ...(await complete('run', '--mount', `${mount}layout/i`)),
          ...(await complete('run', `--mount=${mount}la`)),
        ],
        [`${mount}layout/index.json`, '', `--mount=${mount}layout/`, ''],
      )
    assert.deepEqual(await complete('run', '--mount', 'type=image,source=debian'), [
      'type=image,source=debian:12',
      '',
    ])
    assert.deepEqual(await complete('run', '--network', 'ns:./non/'), [''])
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

test('bash offers files for a mount of `loam run`, and the word goes on behind one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-completion-'))
  try {
    const command = join(folder, 'loam')
    const main = fileURLToPath(new URL('../main.ts', import.meta.url))
    const line = `import(${JSON.stringify(main)}).then(({ main }) => main(process.argv.slice(1), '1'))`
    writeFileSync(command, `#!/bin/sh\nexec ${process.execPath} -e '${line}' -- "$@"\n`, { mode: 0o755 })
    mkdirSync(join(folder, 'data'))
    writeFileSync(join(folder, 'data.env'), '')
    const complete = (...words: readonly string[]) => {
      const script = `${completionScript('bash')}
compopt() { echo "$2"; }
COMP_LINE="loam ${words.join('')}"; COMP_POINT=\${#COMP_LINE}
COMP_WORDS=(loam ${words.join(' ')}); COMP_CWORD=${words.length}
_loam; printf '%s\\n' "\${COMPREPLY[@]}"`
      const env = { ...process.env, PATH: `${folder}:${process.env['PATH']}` }
      return execFileSync('bash', ['-c', script], { encoding: 'utf8', cwd: folder, env })
        .trimEnd()
        .split('\n')
        .toSorted()
    }
    assert.deepEqual(complete('run ', '-v ', 'da'), ['data', 'data.env', 'filenames', 'nospace'])
    assert.deepEqual(complete('run ', '--env-file ', 'data.'), ['data.env', 'filenames'])
    const mount = ['run ', '--mount ', 'type', '=', 'bind,source', '=', './da']
    assert.deepEqual(complete(...mount), ['./data.env', './data/'])
    assert.deepEqual(complete('image ', 'hist'), ['history'])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
