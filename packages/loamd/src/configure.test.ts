import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Command, CommanderError } from 'commander'
import { isLoamError } from 'loamfs'
import { addConfigure } from './configure.ts'

/** Runs the command. Returns its output. */
async function configure(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  let output = ''
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined })
  addConfigure(program, {
    env,
    write: (text) => {
      output += text
    },
  })
  for (const command of program.commands.flatMap((each) => each.commands))
    command.copyInheritedSettings(program)
  await program.parseAsync(['configure', ...args], { from: 'user' })
  return output
}

test('loamd configure prints lines for the containerd that is installed, or for the one that is named', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-configure-'))
  try {
    const program = join(folder, 'containerd')
    writeFileSync(program, '#!/bin/sh\necho containerd github.com/containerd/containerd 1.6.20~ds1 x\n')
    chmodSync(program, 0o755)
    assert.match(await configure(['containerd', '--print'], { PATH: folder }), /^version = 2\n/)
    assert.match(await configure(['containerd', '--print'], { PATH: '/none' }), /^version = 3\n/)
    const places = ['--grpc-socket', '/run/x.sock', '--root', '/srv/loam']
    const named = await configure(['containerd', '--print', '--containerd-version', '2.1', ...places], {
      PATH: folder,
    })
    assert.match(named, /^version = 3\n[\s\S]*address = "\/run\/x\.sock"[\s\S]*root = "\/srv\/loam"/)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('loamd configure refuses a version that it cannot read, and a command without --print', async () => {
  const bad = configure(['containerd', '--print', '--containerd-version', 'newest'])
  await assert.rejects(bad, (error) => isLoamError(error, 'USAGE'))
  await assert.rejects(configure(['containerd']), CommanderError)
  assert.deepEqual(JSON.parse(await configure(['docker', '--print'])), {
    features: { 'containerd-snapshotter': true },
    'storage-driver': 'loam',
  })
})
