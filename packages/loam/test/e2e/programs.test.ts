// The programs in the comment of `Loam`: run as written there, except for names and paths of this machine.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { text } from 'node:stream/consumers'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { libraryAddress } from '../support/test-tools.ts'
import { busyboxEntries, DebianRegistry, World } from '../support/world.ts'

const SOURCE = fileURLToPath(new URL('../../src/app/loam.ts', import.meta.url))

/** Returns the programs in the comment of the class. */
function readPrograms(): string[] {
  const comment = readFileSync(SOURCE, 'utf8').split('export class Loam ')[0]?.split('/**').at(-1) ?? ''
  const lines = comment.replaceAll(/^ \* ?/gm, '')
  return [...lines.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1] ?? '')
}

interface Scene {
  readonly world: World
  readonly base: string
  readonly target: string
}

/** Runs a program in a process of its own, in a directory from which `loamfs` is found. Returns its output. */
async function runProgram({ world, base, target }: Scene, program: string): Promise<string> {
  const modules = world.path('node_modules')
  mkdirSync(modules, { recursive: true })
  symlinkSync(dirname(fileURLToPath(libraryAddress())), join(modules, 'loamfs'))
  const own = program
    .replaceAll('/var/lib/loam', world.root)
    .replaceAll('debian:12', base)
    .replaceAll('registry.example.com', target)
  writeFileSync(world.path('program.mjs'), own)
  const child = spawn(process.execPath, [world.path('program.mjs')], {
    cwd: world.folder,
    env: { ...process.env, LOAM_STATE: world.state },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [output] = await Promise.all([
    text(child.stdout),
    new Promise((resolve) => child.on('exit', resolve)),
  ])
  assert.equal(child.exitCode, 0)
  return output
}

async function inScene(act: (scene: Scene) => Promise<void>): Promise<void> {
  using world = new World()
  await using server = await RegistryServer.start()
  using target = await DebianRegistry.start()
  server.addImage('base', '1', buildImage({ tars: [buildTar(busyboxEntries(['echo']))] }))
  await act({ world, base: `${server.host}/base:1`, target: target.host })
}

describe('the programs in the comment of Loam', () => {
  const [provision = '', run = '', build = '', snapshots = '', ...others] = readPrograms()

  test('the comment of Loam has four programs', () => {
    assert.equal(others.length, 0)
    assert.ok(snapshots !== '')
  })

  test('the program that provisions prints a digest and a path, and leaves no container', async () => {
    await inScene(async (scene) => {
      const output = await runProgram(scene, provision)
      assert.match(output, /^sha256:[0-9a-f]{64} \/.*\/containers\/web\//)
      assert.equal(scene.world.loam('--json', 'ps').stdout, '[]\n')
    })
  })

  test('the program that runs a process shows its output and its status', async () => {
    await inScene(async (scene) => {
      assert.equal(await runProgram(scene, run), 'hello\nended with 0\n')
    })
  })

  test('the program that builds an image pushes and exports the changes of the container', async () => {
    await inScene(async (scene) => {
      const digest = (await runProgram(scene, build)).trim()
      const pulled = scene.world.loam('pull', `oci:${scene.world.path('layout')}`)
      assert.equal(pulled.status, 0, pulled.stderr)
      assert.match(digest, /^sha256:[0-9a-f]{64}$/)
      const { stdout } = scene.world.loam('provision', `${scene.target}/web:2`, '--pull')
      assert.equal(readFileSync(join(stdout.trim(), 'motd'), 'utf8'), 'made by a program')
    })
  })

  test('the program that keeps snapshots writes a layer and an image of it', async () => {
    await inScene(async (scene) => {
      assert.match(await runProgram(scene, snapshots), /docker\.io\/library\/hello:1/)
      const listed = execFileSync('tar', ['-tf', scene.world.path('layer.tar')], { encoding: 'utf8' })
      assert.match(listed, /^(?:\.\/)?hello$/m)
    })
  })
})
