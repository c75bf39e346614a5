import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { NotifySocket } from '../../../loam/test/support/notify-socket.ts'
import { Log } from '../log.ts'
import { Notifier } from './notifier.ts'
import { startWatchdog } from './watchdog.ts'

/** Runs a watchdog with a period of 20 ms until `act` ends. Returns the log. */
async function withWatchdog(
  check: () => Promise<void>,
  act: (manager: NotifySocket) => Promise<void>,
  watched: NodeJS.ProcessEnv = {},
): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-watchdog-'))
  const lines: string[] = []
  try {
    using manager = new NotifySocket(join(folder, 'notify'))
    const log = new Log('debug', (line) => lines.push(line))
    const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '20000', ...watched }
    using _watchdog = startWatchdog({ env, notifier: new Notifier(env, log), check, log })
    await act(manager)
  } finally {
    rmSync(folder, { recursive: true })
  }
  return lines
}

test('the watchdog gets no message while the check fails, and gets one when it succeeds again', async () => {
  let isBroken = true
  const check = async () => {
    if (isBroken) throw new Error('disk I/O error')
  }
  const lines = await withWatchdog(check, async (manager) => {
    await sleep(100)
    assert.deepEqual(manager.receive(), [])
    isBroken = false
    await manager.waitFor(/^WATCHDOG=1$/)
  })
  assert.match(lines[0] ?? '', /"level":"error".*"error":"disk I\/O error"/)
})

test('a check that does not end is not started a second time, and the watchdog gets no message', async () => {
  let started = 0
  const check = async () => {
    started += 1
    await Promise.withResolvers<void>().promise
  }
  await withWatchdog(check, async (manager) => {
    await sleep(100)
    assert.deepEqual([started, manager.receive()], [1, []])
  })
})

test('a process that the manager does not watch sends nothing', async () => {
  for (const env of [{ WATCHDOG_PID: '1' }, { WATCHDOG_USEC: '0' }, { WATCHDOG_USEC: 'x' }]) {
    const act = async (manager: NotifySocket) => {
      await sleep(50)
      assert.deepEqual(manager.receive(), [])
    }
    assert.deepEqual(await withWatchdog(async () => undefined, act, env), [])
  }
})
