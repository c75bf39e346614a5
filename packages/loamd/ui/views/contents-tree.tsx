import { type Signal, signal } from '@preact/signals'
import type { ContentsEntry } from 'loamfs'
import type { TargetedKeyboardEvent, VNode } from 'preact'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { api, type ApiError } from '../api.ts'
import { formatBytes, formatCount } from '../format.ts'
import { Bar } from '../parts/bar.tsx'
import { Failure, Loading } from '../parts/states.tsx'
import { toApiError } from '../resource.ts'

/** One directory that has been opened. */
interface OpenDirectory {
  readonly entries: readonly ContentsEntry[]
  readonly leftOut: number
}

/** A line of the tree. */
interface Row {
  readonly path: string
  readonly entry: ContentsEntry
  readonly depth: number
  readonly position: number
  readonly siblings: number
  readonly parentBytes: number
  /** How many smaller names of the same directory are not shown, behind its last row. */
  readonly leftOut: number
}

/** Directories that were opened, and the line that has the focus. */
class TreeState {
  readonly directories: Signal<ReadonlyMap<string, OpenDirectory>> = signal(new Map())
  readonly loading: Signal<string | undefined> = signal(undefined)
  readonly error: Signal<ApiError | undefined> = signal(undefined)
  readonly current = signal('')
  readonly #load: (path: string) => Promise<OpenDirectory>

  constructor(load: (path: string) => Promise<OpenDirectory>) {
    this.#load = load
  }

  async open(path: string): Promise<void> {
    if (this.directories.value.has(path)) return
    this.loading.value = path
    try {
      const found = await this.#load(path)
      this.directories.value = new Map([...this.directories.value, [path, found]])
      this.error.value = undefined
    } catch (error) {
      this.error.value = toApiError(error)
    } finally {
      this.loading.value = undefined
    }
  }

  close(path: string): void {
    this.directories.value = new Map([...this.directories.value].filter(([open]) => open !== path))
  }

  rows(): Row[] {
    const add = (path: string, depth: number): Row[] => {
      const directory = this.directories.value.get(path)
      if (directory === undefined) return []
      const { entries, leftOut } = directory
      const parentBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0)
      return entries.flatMap((entry, index) => {
        const own = `${path === '/' ? '' : path}/${entry.name}`
        const row: Row = {
          path: own,
          entry,
          depth,
          position: index + 1,
          siblings: entries.length,
          parentBytes,
          leftOut: index + 1 === entries.length ? leftOut : 0,
        }
        return [row, ...add(own, depth + 1)]
      })
    }
    return add('/', 1)
  }
}

/** The files of an image or of a layer. Each directory is loaded when it is opened. */
export function ContentsTree({
  image,
  layer,
}: {
  readonly image: string
  readonly layer: number | undefined
}): VNode {
  const state = useMemo(() => new TreeState(async (path) => api.contents(image, path, layer)), [])
  const list = useRef<HTMLDivElement>(null)
  useEffect(() => {
    void state.open('/')
  }, [])
  const rows = state.rows()
  const current = rows.find(({ path }) => path === state.current.value) ?? rows[0]
  const focus = (row: Row | undefined) => {
    if (row === undefined) return
    state.current.value = row.path
    list.current?.querySelector<HTMLElement>(`[data-path="${CSS.escape(row.path)}"]`)?.focus()
  }
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLDivElement>) => {
    if (current === undefined || event.ctrlKey || event.metaKey || event.altKey) return
    if (press(event.key, { rows, current, state, focus })) event.preventDefault()
  }
  const failure = state.error.value
  if (state.directories.value.get('/')?.entries.length === 0)
    return <p class="note">There is nothing in it.</p>
  return (
    <>
      {failure !== undefined && <Failure error={failure} />}
      {rows.length === 0 && failure === undefined && <Loading />}
      {rows.length > 0 && (
        <div
          class="tree"
          role="tree"
          aria-label="Files"
          aria-busy={state.loading.value !== undefined}
          ref={list}
          onKeyDown={onKeyDown}
        >
          {rows.map((row) => (
            <TreeRow
              key={row.path}
              row={row}
              isCurrent={row.path === current?.path}
              state={state}
              focus={focus}
            />
          ))}
        </div>
      )}
    </>
  )
}

function TreeRow({
  row,
  isCurrent,
  state,
  focus,
}: {
  readonly row: Row
  readonly isCurrent: boolean
  readonly state: TreeState
  readonly focus: (row: Row) => void
}): VNode {
  const { entry, path, depth } = row
  const isDirectory = entry.type === 'directory'
  const isOpen = state.directories.value.has(path)
  const toggle = () => {
    focus(row)
    if (isDirectory && isOpen) state.close(path)
    else if (isDirectory) void state.open(path)
  }
  return (
    <>
      <div
        class={`tree-row tree-${entry.type}`}
        role="treeitem"
        aria-level={depth}
        aria-posinset={row.position}
        aria-setsize={row.siblings}
        aria-expanded={isDirectory ? isOpen : undefined}
        data-path={path}
        tabIndex={isCurrent ? 0 : -1}
        style={{ '--depth': depth - 1 }}
        onClick={toggle}
      >
        <span class="tree-name">
          <span class={`tree-mark ${isOpen ? 'tree-open' : ''}`} />
          <span class="tree-text">{entry.name}</span>
          {entry.target !== undefined && <span class="note">→ {entry.target}</span>}
          {entry.type === 'whiteout' && <span class="badge">removed here</span>}
          {state.loading.value === path && <span class="note">loading…</span>}
        </span>
        <Bar
          whole={row.parentBytes}
          parts={[
            { bytes: entry.bytes - entry.hiddenBytes, tone: 'tone-own' },
            { bytes: entry.hiddenBytes, tone: 'tone-hidden' },
          ]}
        />
        <span class="tree-size number">{hasSize(entry) ? formatBytes(entry.bytes) : ''}</span>
        <span class="tree-note note">{noteOf(entry)}</span>
      </div>
      {row.leftOut > 0 && (
        <p class="tree-more note" style={{ '--depth': depth - 1 }}>
          and {formatCount(row.leftOut, 'smaller name')}
        </p>
      )}
    </>
  )
}

function hasSize({ type }: ContentsEntry): boolean {
  return type === 'file' || type === 'directory'
}

function noteOf({ type, files, layer, hiddenBytes }: ContentsEntry): string {
  if (hiddenBytes > 0) return `${formatBytes(hiddenBytes)} wasted`
  if (type === 'directory') return formatCount(files, 'file')
  return layer === undefined ? '' : `layer ${layer + 1}`
}

interface Pressed {
  readonly rows: readonly Row[]
  readonly current: Row
  readonly state: TreeState
  readonly focus: (row: Row | undefined) => void
}

/** Does what a key means in a tree (WAI-ARIA, tree view pattern). Returns false for a key that means nothing. */
function press(key: string, { rows, current, state, focus }: Pressed): boolean {
  const index = rows.indexOf(current)
  const isDirectory = current.entry.type === 'directory'
  const isOpen = state.directories.value.has(current.path)
  switch (key) {
    case 'ArrowDown':
      focus(rows[index + 1])
      return true
    case 'ArrowUp':
      focus(rows[index - 1])
      return true
    case 'Home':
      focus(rows[0])
      return true
    case 'End':
      focus(rows.at(-1))
      return true
    case 'ArrowRight':
      if (isDirectory && !isOpen) void state.open(current.path)
      else if (isDirectory && (rows[index + 1]?.depth ?? 0) > current.depth) focus(rows[index + 1])
      return true
    case 'ArrowLeft':
      if (isOpen) state.close(current.path)
      else focus(rows.slice(0, index).findLast(({ depth }) => depth < current.depth))
      return true
    case 'Enter':
    case ' ':
      if (isDirectory && isOpen) state.close(current.path)
      else if (isDirectory) void state.open(current.path)
      return true
    default:
      return jump(key, index, rows, focus)
  }
}

/** Goes to the next name that begins with a character. */
function jump(key: string, index: number, rows: readonly Row[], focus: Pressed['focus']): boolean {
  if (key.length !== 1) return false
  const after = [...rows.slice(index + 1), ...rows.slice(0, index + 1)]
  focus(after.find(({ entry }) => entry.name.toLowerCase().startsWith(key.toLowerCase())))
  return true
}
