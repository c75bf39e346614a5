// The drawing of progress at a real terminal, tmux's: at several widths, after the terminal changes its size, and at the end.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { must, World } from '../support/world.ts'

const LAYERS = 8
/** Room for all lines when the terminal breaks each of them: what has left the screen cannot be drawn over. */
const HEIGHT = '60'
const DEADLINE_MS = 60_000

describe('the progress of a pull at a terminal', () => {
  let world: World
  let registry: RegistryServer
  /** Answers that wait. */
  const held: (() => void)[] = []

  before(async () => {
    world = new World()
    registry = await RegistryServer.start()
    // They do not shrink, and are too large to be fetched into memory.
    const tars = Array.from({ length: LAYERS }, (_, index) =>
      buildTar([{ name: `file-${index}`, data: randomBytes(400 << 10) }]),
    )
    registry.addImage('team/app', '1', buildImage({ tars }))
    registry.intercept = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false
      held.push(() => {
        registry.answer(request, response)
      })
      return true
    }
  })
  after(async () => {
    tmux('kill-server')
    await registry[Symbol.asyncDispose]()
    world[Symbol.dispose]()
  })

  const tmux = (...args: readonly string[]): string =>
    execFileSync('tmux', ['-f', '/dev/null', '-S', world.path('tmux'), ...args], { encoding: 'utf8' })
  const screen = () => tmux('capture-pane', '-p', '-t', 'pull').trimEnd().split('\n')
  const until = async (isSo: (lines: readonly string[]) => boolean): Promise<readonly string[]> => {
    for (const end = performance.now() + DEADLINE_MS; ; await sleep(50)) {
      const lines = screen()
      if (isSo(lines)) return lines
      assert.ok(performance.now() < end, `the terminal shows:\n${lines.join('\n')}`)
    }
  }
  const release = () => {
    for (const answer of held.splice(0)) answer()
  }

  test('each layer has one line at any width and after a change of it, and none is left at the end', async () => {
    const words = world.args('pull', `${registry.host}/team/app:1`).map((word) => `'${word}'`)
    const line = `env -u NO_COLOR LOAM_DAEMON=never '${process.execPath}' ${words.join(' ')}; echo status $?; exec sleep 1000`
    tmux('new-session', '-d', '-s', 'pull', '-x', '40', '-y', HEIGHT, line)
    const isDrawn = (lines: readonly string[]) =>
      lines.filter((each) => /^[0-9a-f]{12}(?: |$)/.test(each)).length === LAYERS &&
      lines.filter((each) => /^\d+ of 8 done|^0 B \/|^\d+ %/.test(each)).length === 1
    // The config is asked for first.
    await until(() => held.length > 0)
    release()
    await until(isDrawn)
    const shell = Number(tmux('display-message', '-p', '-t', 'pull', '#{pane_pid}'))
    for (const columns of ['24', '120', '80']) {
      // tmux breaks the lines some time before it tells the program.
      process.kill(-shell, 'SIGSTOP')
      tmux('resize-window', '-t', 'pull', '-x', columns, '-y', HEIGHT)
      const tty = tmux('display-message', '-p', '-t', 'pull', '#{pane_tty}').trim()
      await until(() => must('stty', '-F', tty, 'size') === `${HEIGHT} ${columns}\n`)
      process.kill(-shell, 'SIGCONT')
      await until(isDrawn)
    }
    for (let lines = screen(); !lines.some((each) => each.startsWith('status')); lines = screen()) {
      release()
      await sleep(20)
    }
    const lines = await until((shown) => shown.some((each) => each.startsWith('status 0')))
    assert.equal(lines.filter((each) => /\d+ of \d+ done|\[=|queued/.test(each)).length, 0, lines.join('\n'))
    assert.match(lines.join(''), /sha256:[0-9a-f]{64}/)
  })
})
