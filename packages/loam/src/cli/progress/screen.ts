import { formatBytes, formatDuration } from '../format.ts'
import { isFinished, type ProgressBoard, type Task } from './board.ts'

/** One line of a screen, without line break. */
export interface ScreenLine {
  /** ASCII. */
  readonly text: string
  readonly style: 'plain' | 'done' | 'waiting' | 'sum'
}

export interface ScreenSize {
  readonly columns: number
  readonly rows: number
}

const MIN_BAR = 8
const MAX_BAR = 30
const MAX_LABEL = 32
/** Lines of the terminal that are left to what stands above. */
const SPARE_ROWS = 2

/**
 * Returns the lines that show the work: one for each task that is not finished or was fetched, as many as fit, and the sum. No line is longer than the
 * terminal is wide, so that no line is wrapped.
 */
export function drawScreen(board: ProgressBoard, size: ScreenSize): ScreenLine[] {
  const tasks = board.tasks.filter(({ state }) => state !== 'here')
  // The last column is left free: a terminal may wrap a line that fills it.
  const width = Math.max(1, size.columns - 1)
  const shown = choose(tasks, Math.max(0, size.rows - SPARE_ROWS - 1))
  const label = Math.min(MAX_LABEL, Math.max(0, ...shown.map((task) => task.label.length)))
  const lines = shown.map((task) => drawTask(task, label, width))
  if (tasks.length === 1 && lines.length === 1 && width >= 60) return [withSpeed(lines[0], board, width)]
  return [...lines, { text: drawSum(board, tasks.length - shown.length, width), style: 'sum' }]
}

/** Active tasks first if there is no room for all; those that are shown stay in their order. */
function choose(tasks: readonly Task[], room: number): readonly Task[] {
  if (tasks.length <= room) return tasks
  const rank = (task: Task) => ({ active: 0, waiting: 1, queued: 2, done: 3, here: 4 })[task.state]
  const chosen = new Set(tasks.toSorted((a, b) => rank(a) - rank(b)).slice(0, room))
  return tasks.filter((task) => chosen.has(task))
}

function withSpeed(line: ScreenLine | undefined, board: ProgressBoard, width: number): ScreenLine {
  const { text, style } = line ?? { text: '', style: 'plain' }
  return { text: firstThatFits(width, [[text, ...speedOf(board)], [text]]), style }
}

function drawTask(task: Task, labelWidth: number, width: number): ScreenLine {
  const label = task.label.slice(0, labelWidth).padEnd(labelWidth)
  switch (task.state) {
    case 'done':
    case 'here':
      return { text: firstThatFits(width, [[label, doneText(task)], [label]]), style: 'done' }
    case 'waiting': {
      const who = task.holderPid === undefined ? 'another process' : `process ${task.holderPid}`
      return {
        text: firstThatFits(width, [[label, `waiting for ${who}`], [label, 'waiting'], ['waiting']]),
        style: 'waiting',
      }
    }
    case 'queued':
      return {
        text: firstThatFits(width, [[label, 'queued', sizeOf(task)], [label, 'queued'], [label]]),
        style: 'done',
      }
    case 'active':
      return { text: drawActive(task, label, width), style: 'plain' }
  }
}

function doneText({ doneBytes, totalBytes, remark = 'done' }: Task): string {
  const bytes = totalBytes ?? doneBytes
  return bytes === 0 ? remark : `${remark}  ${formatBytes(bytes)}`
}

function sizeOf({ totalBytes }: Task): string {
  return totalBytes === undefined ? '' : formatBytes(totalBytes)
}

function drawActive({ doneBytes, totalBytes }: Task, label: string, width: number): string {
  if (totalBytes === undefined) {
    const done = formatBytes(doneBytes)
    return firstThatFits(width, [[label, done], [done]])
  }
  const amount = amountOf(doneBytes, totalBytes)
  const bar = barOf(doneBytes, totalBytes, width - label.length - amount.length - 4)
  const percent = percentOf(doneBytes, totalBytes)
  return firstThatFits(width, [[label, bar, amount], [label, amount], [label, percent], [percent]])
}

function drawSum(board: ProgressBoard, hidden: number, width: number): string {
  const { tasks, finished, here, doneBytes, totalBytes } = board.totals
  const counted = `${finished} of ${tasks} done`
  const more = [hidden === 0 ? [] : `${hidden} not shown`, here === 0 ? [] : `${here} already here`].flat()
  const speed = speedOf(board)
  if (totalBytes === undefined) {
    const done = formatBytes(doneBytes)
    return firstThatFits(width, [[counted, done, ...speed, ...more], [counted, done], [done]])
  }
  const amount = amountOf(doneBytes, totalBytes)
  const percent = percentOf(doneBytes, totalBytes)
  return firstThatFits(width, [
    [counted, amount, ...speed, ...more],
    [counted, amount, ...speed, ...more.slice(0, 1)],
    [counted, amount, ...speed],
    [amount, ...speed],
    [counted, amount],
    [amount],
    [percent],
  ])
}

function speedOf(board: ProgressBoard): string[] {
  const { speed, leftMs } = board
  if (speed === undefined) return []
  const rate = `${formatBytes(Math.max(0, Math.round(speed)))}/s`
  return leftMs === undefined || !board.tasks.some((task) => !isFinished(task))
    ? [rate]
    : [rate, `${formatDuration(leftMs)} left`]
}

function amountOf(doneBytes: number, totalBytes: number): string {
  return `${formatBytes(doneBytes)} / ${formatBytes(totalBytes)}`
}

function percentOf(doneBytes: number, totalBytes: number): string {
  return `${Math.floor(shareOf(doneBytes, totalBytes) * 100)} %`
}

function shareOf(doneBytes: number, totalBytes: number): number {
  return totalBytes === 0 ? 1 : Math.min(1, doneBytes / totalBytes)
}

/** Returns a bar, or '' where there is no room for one. */
function barOf(doneBytes: number, totalBytes: number, room: number): string {
  const width = Math.min(MAX_BAR, room - 2)
  if (width < MIN_BAR) return ''
  const filled = Math.round(shareOf(doneBytes, totalBytes) * width)
  return `[${'='.repeat(filled)}${' '.repeat(width - filled)}]`
}

/** Returns the first of the texts that the width has room for, or as much of the last as it has room for. */
function firstThatFits(width: number, texts: readonly (readonly string[])[]): string {
  const joined = texts.map((parts) =>
    parts
      .filter((part) => part !== '')
      .join('  ')
      .trimEnd(),
  )
  return joined.find((text) => text.length <= width) ?? (joined.at(-1) ?? '').slice(0, width)
}
