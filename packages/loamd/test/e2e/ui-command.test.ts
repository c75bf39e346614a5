// `loam ui` and the daemon as they are installed: with the page of the package.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { DaemonWorld } from '../support/world.ts'

test('loam ui prints the address of the page that the daemon serves, and loam ui --stop ends it', async () => {
  await using world = new DaemonWorld()
  const ui = (...args: readonly string[]) => {
    const places = ['--root', world.root, '--state', world.state]
    const { status, stdout, stderr } = spawnSync(programPath('loam'), ['ui', ...places, ...args], {
      encoding: 'utf8',
      cwd: world.folder,
    })
    return { status, stdout, stderr }
  }
  const none = ui()
  assert.equal(none.status, 1)
  assert.match(none.stderr, /loamd\.sock: no such socket\nhint: Start it with the same --state/)
  await world.startDaemon()
  assert.deepEqual(ui('--stop').stdout, 'The page was not open.\n')
  const { stdout, stderr } = ui()
  assert.match(stdout, /^http:\/\/127\.0\.0\.1:\d+\/#access=[\w-]{43}\n$/)
  assert.match(stderr, /^Keep this address secret/)
  const { origin, hash } = new URL(stdout.trim())
  for (const path of ['/', '/page.js', '/page.css', '/icon.svg']) {
    const answer = await fetch(`${origin}${path}`)
    assert.equal(answer.status, 200, path)
    assert.ok((await answer.bytes()).length > 100, path)
  }
  const headers = { authorization: `Bearer ${hash.replace('#access=', '')}` }
  assert.deepEqual(await (await fetch(`${origin}/v1/images`, { headers })).json(), [])
  assert.deepEqual(JSON.parse(ui('--json').stdout), { address: stdout.trim() })
  // A relative path is one of the caller's directory, also if the daemon runs the command.
  const socket = relative(world.folder, join(world.state, 'loamd.sock'))
  assert.equal(ui('--socket', socket).stdout, stdout)
  assert.equal(ui('--stop').stdout, 'The page is closed.\n')
  await assert.rejects(fetch(origin))
})
