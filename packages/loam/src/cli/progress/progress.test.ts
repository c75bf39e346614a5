import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { captureHost } from '../../../test/support/captured-host.ts'
import type { Digest } from '../../image/index.ts'
import { Output, type ProgressMode } from '../output.ts'
import { PullProgress } from '../progress.ts'
import { ProgressBoard, type Task } from './board.ts'
import { LiveView } from './live-view.ts'
import { drawScreen } from './screen.ts'

const MB = 1_000_000

/** A board whose clock the test sets. */
function boardAt(): { board: ProgressBoard; clock: { ms: number } } {
  const clock = { ms: 0 }
  return { board: new ProgressBoard(() => clock.ms), clock }
}

/** A board of a pull that has fetched one layer of 50 MB, and 20 of the 60 MB of another, in two seconds. */
function pullAt(): ProgressBoard {
  const { board, clock } = boardAt()
  for (const [label, totalBytes] of [
    ['b05093807bb0', 50 * MB],
    ['8989058a3bb7', 60 * MB],
    ['2f63a7589ec4', 200 * MB],
    ['cc567559604c', 10 * MB],
  ] as const)
    board.set(label, { label, totalBytes })
  board.set('111111111111', { label: '111111111111', state: 'here' })
  board.set('b05093807bb0', { state: 'active' })
  clock.ms = 2000
  board.set('b05093807bb0', { state: 'done', doneBytes: 50 * MB })
  board.set('8989058a3bb7', { state: 'active', doneBytes: 20 * MB })
  board.set('cc567559604c', { state: 'waiting', holderPid: 4711 })
  return board
}

const textOf = (board: ProgressBoard, columns: number, rows = 24) =>
  drawScreen(board, { columns, rows }).map(({ text }) => text)

test('a pull shows all of its layers with their sizes, who is waited for, the sum, the speed and the time left', () => {
  assert.deepEqual(textOf(pullAt(), 80), [
    'b05093807bb0  done  50.0 MB',
    '8989058a3bb7  [==========                    ]  20.0 MB / 60.0 MB',
    '2f63a7589ec4  queued  200 MB',
    'cc567559604c  waiting for process 4711',
    '1 of 4 done  70.0 MB / 320 MB  35.0 MB/s  7.1 s left  1 already here',
  ])
})

test('no line of a drawing is wider than its terminal, at any width, and there are never more lines than rows', () => {
  const board = pullAt()
  for (let columns = 1; columns <= 120; columns += 1)
    for (const rows of [1, 3, 5, 24]) {
      const lines = textOf(board, columns, rows)
      assert.ok(
        lines.every((text) => text.length < Math.max(2, columns)),
        `${columns}: ${lines.join('|')}`,
      )
      assert.ok(lines.length <= Math.max(1, rows - 1), `${rows} rows: ${lines.length}`)
    }
  assert.deepEqual(textOf(board, 32), [
    'b05093807bb0  done  50.0 MB',
    '8989058a3bb7  20.0 MB / 60.0 MB',
    '2f63a7589ec4  queued  200 MB',
    'cc567559604c  waiting',
    '1 of 4 done  70.0 MB / 320 MB',
  ])
})

test('where there is no room for all layers, those that are fetched are shown', () => {
  assert.deepEqual(textOf(pullAt(), 80, 5), [
    '8989058a3bb7  [==========                    ]  20.0 MB / 60.0 MB',
    'cc567559604c  waiting for process 4711',
    '1 of 4 done  70.0 MB / 320 MB  35.0 MB/s  7.1 s left  2 not shown',
  ])
})

/** A terminal that wraps lines when it becomes narrower, as the usual ones do. Each row is a text, and whether the next one continues it. */
class FakeTerminal {
  columns: number
  rows: string[] = ['']
  #row = 0

  constructor(columns: number) {
    this.columns = columns
  }

  resize(columns: number): void {
    this.columns = columns
    const before = this.rows.slice(0, this.#row)
    this.rows = before.flatMap((row) => row.match(new RegExp(`.{1,${columns}}`, 'g')) ?? [''])
    this.#row = this.rows.length
    this.rows.push('')
  }

  write(text: string): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: codes of terminals begin with it.
    for (const [token] of text.matchAll(/\u001b\[\d*[AKJm]|\r|\n|[^\u001b\r\n]+/g)) this.#apply(token)
  }

  #apply(token: string): void {
    if (token === '\n') {
      this.#row += 1
      this.rows[this.#row] ??= ''
    } else if (token.endsWith('A') && token.startsWith('\u001b')) {
      this.#row = Math.max(0, this.#row - Number(token.slice(2, -1)))
    } else if (token === '\u001b[J') {
      this.rows.length = this.#row + 1
      this.rows[this.#row] = ''
    } else if (!token.startsWith('\u001b') && token !== '\r') {
      this.rows[this.#row] = token
    }
  }

  get screen(): string[] {
    return this.rows.filter((row) => row !== '')
  }
}

test('a drawing replaces the one before it, also after the terminal was made narrower and wider, and leaves nothing at the end', () => {
  const terminal = new FakeTerminal(80)
  const board = pullAt()
  let now = 0
  const view = new LiveView(board, {
    size: () => ({ columns: terminal.columns, rows: 24 }),
    draw: (text) => {
      terminal.write(text)
      return true
    },
    style: ({ text }) => text,
    now: () => now,
  })
  terminal.write('$ loam pull x\n')
  view.begin()
  view.tick()
  assert.deepEqual(terminal.screen, ['$ loam pull x'], 'nothing is shown of what takes no time')
  now = 1000
  view.tick()
  for (const columns of [80, 30, 100, 20, 45, 80]) {
    terminal.resize(columns)
    view.tick()
    // The line above may be wrapped, too.
    assert.deepEqual(terminal.screen.slice(-5), textOf(board, columns), String(columns))
    assert.equal(terminal.screen.slice(0, -5).join(''), '$ loam pull x', String(columns))
  }
  view.clear()
  terminal.write('note: x\n')
  view.tick()
  assert.deepEqual(terminal.screen, ['$ loam pull x', 'note: x', ...textOf(board, 80)])
  view.end()
  assert.deepEqual(terminal.screen, ['$ loam pull x', 'note: x'])
})

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest

/** Returns what a pull of one layer writes to standard error. */
function pulled(progress: ProgressMode, options: { isHere?: boolean; env?: NodeJS.ProcessEnv } = {}): string {
  const host = captureHost('/', options.env)
  const shown = new PullProgress(new Output(host, { json: false, quiet: false, progress }))
  shown.onEvent({ kind: 'layers', layers: [{ digest: DIGEST, index: 0, totalBytes: 5 * MB }] })
  const layer = { kind: 'layer', digest: DIGEST, index: 0, count: 1 } as const
  if (options.isHere === true) shown.onEvent({ ...layer, progress: { state: 'exists' } })
  else {
    shown.onEvent({ ...layer, progress: { state: 'waiting', holderPid: 4711 } })
    shown.onEvent({ ...layer, progress: { state: 'fetching', receivedBytes: 0, totalBytes: 5 * MB } })
    shown.onEvent({ ...layer, progress: { state: 'done', leftOutXattrs: undefined } })
  }
  shown.summarize('fetched')
  return host.said.stderr
}

test('elsewhere than on a terminal each completed layer is one line with its size and time, and nothing is said of one that is here', () => {
  const lines = pulled('plain')
    .replaceAll(/[\d.]+ s/g, 'TIME')
    .replaceAll(/, [\d.]+ [kMGT]?B\/s/g, ', SPEED')
  assert.deepEqual(lines.trimEnd().split('\n'), [
    'layer 1/1 aaaaaaaaaaaa waiting for process 4711',
    'layer 1/1 aaaaaaaaaaaa fetched, 5.00 MB in TIME',
    'fetched 5.00 MB in TIME, SPEED',
  ])
  assert.equal(pulled('plain', { isHere: true }), '')
  assert.equal(pulled('none'), '')
})

test('a blob that was here and is copied now takes the time of the copy', () => {
  const { board, clock } = boardAt()
  const timesOf = ({ startedMs, endedMs }: Pick<Task, 'startedMs' | 'endedMs'>) => [startedMs, endedMs]
  assert.deepEqual(timesOf(board.set('a', { state: 'here' })), [undefined, undefined])
  clock.ms = 1000
  assert.deepEqual(timesOf(board.set('a', { state: 'active' })), [1000, undefined])
  clock.ms = 3000
  assert.deepEqual(timesOf(board.set('a', { state: 'done' })), [1000, 3000])
  clock.ms = 4000
  assert.deepEqual(timesOf(board.set('a', { remark: 'x' })), [1000, 3000])
  board.set('a', { state: 'active' })
  clock.ms = 5000
  assert.deepEqual(timesOf(board.set('a', { state: 'done' })), [4000, 5000])
  board.set('b', { state: 'here' })
  assert.deepEqual(timesOf(board.set('b', { state: 'done' })), [5000, 5000])
})

test('--quiet turns off progress and advice, and nothing that was done otherwise than it was asked', () => {
  const said = (quiet: boolean) => {
    const host = captureHost('/')
    const output = new Output(host, { json: false, quiet })
    const shown = new PullProgress(output)
    const digest = `sha256:${'b'.repeat(64)}` as Digest
    shown.onEvent({ kind: 'resolved', name: 'app', digest: DIGEST })
    shown.onEvent({ kind: 'note', text: 'left out /socket' })
    shown.onEvent({ kind: 'note', text: 'a tip', isAdvice: true })
    shown.onEvent({ kind: 'eager', why: 'no index' })
    shown.onEvent({ kind: 'digest', from: DIGEST, to: digest, reason: 'recompressed' })
    shown.onEvent({ kind: 'blob', digest: DIGEST, route: 'exists' })
    shown.onEvent({ kind: 'blob', digest: DIGEST, route: 'left out' })
    output.note('one more tip')
    output.difference('2 names are not listed')
    assert.deepEqual(shown.notes, ['left out /socket', 'a tip', 'pulled eagerly: no index'])
    return host.said.stderr.trimEnd().split('\n')
  }
  const differences = [
    'note: left out /socket',
    'note: pulled eagerly: no index',
    `the digest changes: ${DIGEST} → sha256:${'b'.repeat(64)} (recompressed)`,
    'blob aaaaaaaaaaaa not uploaded: a foreign layer',
    '2 names are not listed',
  ]
  assert.deepEqual(said(true), differences)
  const all = said(false)
  assert.deepEqual(
    all.filter((line) => !differences.includes(line)),
    [`resolved app to ${DIGEST}`, 'note: a tip', 'blob aaaaaaaaaaaa already there', 'one more tip'],
  )
  assert.equal(all.length, 9)
})

test('with --progress=json each line of standard error is a JSON value', () => {
  const kinds = pulled('json')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map(({ kind, progress }) => progress?.state ?? kind)
  assert.deepEqual(kinds, ['layers', 'waiting', 'fetching', 'done'])
})

test('errors are coloured at a terminal, unless NO_COLOR is set', () => {
  const failing = (env: NodeJS.ProcessEnv) => {
    const host = captureHost('/', env)
    const stderr = { ...host.stderr, isTerminal: true }
    new Output({ env, stdout: host.stdout, stderr }, { json: false, quiet: false }).error(new Error('no'))
    return host.said.stderr
  }
  assert.notEqual(failing({}), stripVTControlCharacters(failing({})))
  assert.equal(failing({ NO_COLOR: '1' }), stripVTControlCharacters(failing({})))
  assert.equal(failing({ TERM: 'dumb' }), stripVTControlCharacters(failing({})))
})
