import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { captureHost } from '../../test/support/captured-host.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'
import { runCommandLine } from './main.ts'

/** Creates a directory with all files that the command lines below name by relative paths. */
function makeDirectory(above: string, name: string): string {
  const directory = join(above, name)
  mkdirSync(directory)
  writeOciLayout(join(directory, 'layout'), {
    x: buildImage({ tars: [buildTar([{ name, data: Buffer.from(name) }])] }),
  })
  writeFileSync(join(directory, 'config.toml'), `registry_tries = ${name.length}\n`)
  writeFileSync(join(directory, 'auth.json'), '{}')
  return directory
}

async function run(
  cwd: string,
  ...args: readonly string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  const host = captureHost(cwd, { HOME: cwd, XDG_DATA_HOME: cwd })
  const status = await runCommandLine(['--root', './store', '--state', 'state', ...args], '1', host)
  return { status, ...host.said }
}

test('two commands that run at once in one process each find relative paths in the directory of their caller', async () => {
  const above = mkdtempSync(join(tmpdir(), 'loam-host-'))
  try {
    const directories = ['first', 'other'].map((name) => makeDirectory(above, name))
    const all = async (...args: readonly string[]) =>
      Promise.all(directories.map(async (directory) => run(directory, ...args)))
    const here = process.cwd()
    for (const args of [
      ['pull', '--authfile', 'auth.json', '--certs-dir', 'certs', 'oci:./layout:x'],
      ['put', 'layout', 'put:1'],
      ['put', 'oci:layout:x', 'put:2'],
      ['--config', 'config.toml', 'export', '--format', 'tar', 'oci:layout', 'out.tar'],
      ['export', '--format', 'oci', 'put:1', './written'],
    ]) {
      for (const { status, stderr } of await all(...args))
        assert.equal(status, 0, `${args.join(' ')}: ${stderr}`)
    }
    for (const directory of directories) {
      const name = directory.endsWith('first') ? 'first' : 'other'
      assert.ok(readFileSync(join(directory, 'out.tar')).includes(name))
      assert.deepEqual(readdirSync(join(directory, 'written')).toSorted(), [
        'blobs',
        'index.json',
        'oci-layout',
      ])
      const left = readdirSync(directory).filter((each) => each !== 'state')
      assert.deepEqual(left.toSorted(), ['auth.json', 'config.toml', 'layout', 'out.tar', 'store', 'written'])
      const { stdout } = await run(directory, '--json', '--config=config.toml', 'config')
      const settings = JSON.parse(stdout) as { name: string; value: unknown; origin: string }[]
      const byName = Object.fromEntries(settings.map((each) => [each.name, each]))
      assert.equal(byName['root']?.value, join(directory, 'store'))
      assert.equal(byName['registry_tries']?.value, 5)
      const missing = await run(directory, 'provision', '--container-info', 'missing.json')
      assert.match(missing.stderr, /read missing\.json: it does not exist/)
    }
    assert.equal(process.cwd(), here)
  } finally {
    rmSync(above, { recursive: true })
  }
})
