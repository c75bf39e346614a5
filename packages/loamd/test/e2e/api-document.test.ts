import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { buildDockerArchive, buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../support/http-world.ts'

const run = promisify(execFile)
const TEXT = readFileSync(new URL('../../../../docs/api.md', import.meta.url), 'utf8')

test('each example with curl in docs/api.md works', async () => {
  await using world = await HttpWorld.start()
  const tar = buildTar([{ name: 'hello', data: 'x' }])
  const image = buildImage({ tars: [tar] })
  const name = world.layoutOf(image)
  writeFileSync(join(world.folder, 'app.tar'), buildDockerArchive(image, [tar], []))
  const examples = [...TEXT.matchAll(/```sh\n([^]*?)```/g)].map(([, example = '']) => example)
  assert.ok(examples.length >= 6)
  for (const example of examples) {
    // On this daemon, with an image that needs no registry and the backend that works everywhere.
    const command = example
      .replaceAll('/run/loam/loamd.sock', world.socket)
      .replaceAll('debian:12', name)
      .replace('"id": "web"', '"id": "web", "backend": "copy"')
    const { stdout } = await run('sh', ['-ec', `${command.trimEnd()} --silent --show-error`], {
      cwd: world.folder,
    })
    if (example.includes('x-ndjson')) assert.match(stdout.trimEnd().split('\n').at(-1) ?? '', /^\{"result":/)
    else if (!example.includes('--output')) assert.doesNotThrow(() => JSON.parse(stdout), example)
  }
  assert.deepEqual((await world.send('GET', '/v1/containers')).body, [])
})
