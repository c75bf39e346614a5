import { hierarchy, treemap } from 'd3-hierarchy'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { VNode } from 'preact'
import { formatBytes } from '../format.ts'

/** A tile of the picture, or a group of tiles. */
export interface Tile {
  readonly name: string
  /** What is said about it when somebody points at it. */
  readonly note?: string
  /** Class of its colour. */
  readonly tone: string
  readonly bytes: number
  readonly href?: string
  readonly children?: readonly Tile[]
}

const HEADER_PX = 26
const SMALL_PX = 34
const NARROW_PX = 64

/** Draws sizes as areas. Everything in it is also in a table, which says it to those who do not see it: so it is hidden from them. */
export function Treemap({
  tiles,
  height,
}: {
  readonly tiles: readonly Tile[]
  readonly height: number
}): VNode {
  const frame = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(0)
  useLayoutEffect(() => {
    const { current } = frame
    if (current === null) return undefined
    const observer = new ResizeObserver(() => {
      setWidth(current.clientWidth)
    })
    observer.observe(current)
    setWidth(current.clientWidth)
    return () => {
      observer.disconnect()
    }
  }, [])
  return (
    <div class="treemap" ref={frame} style={{ height: `${height}px` }} aria-hidden="true">
      {width > 0 && place(tiles, width, height)}
    </div>
  )
}

function place(tiles: readonly Tile[], width: number, height: number): VNode[] {
  const all: Tile = { name: '', tone: '', bytes: 0, children: tiles }
  const sums = hierarchy<Tile>(all, ({ children }) => children?.filter(hasSize)).sum(({ bytes, children }) =>
    children === undefined ? bytes : 0,
  )

  // The hierarchy is no array: it is sorted in place, and has no copy that is.
  // oxlint-disable-next-line unicorn/no-array-sort
  sums.sort((a, b) => (b.value ?? 0) - (a.value ?? 0))
  const placed = treemap<Tile>()
    .size([width, height])
    .paddingOuter(3)
    .paddingTop((node) => (node.depth === 1 ? HEADER_PX : 0))
    .paddingInner(3)
    .round(true)(sums)
  return placed.descendants().flatMap((node) => {
    if (node.depth === 0) return []
    const { x0, x1, y0, y1, data } = node
    const box = { width: x1 - x0, height: y1 - y0 }
    const style = { left: `${x0}px`, top: `${y0}px`, width: `${box.width}px`, height: `${box.height}px` }
    const isGroup = node.children !== undefined
    const hasText = box.width > NARROW_PX && (isGroup || box.height > SMALL_PX)
    const size = formatBytes(node.value ?? 0)
    return (
      <a
        key={`${node.parent?.data.name ?? ''}/${data.name}`}
        class={`tile ${isGroup ? 'tile-group' : 'tile-leaf'} ${data.tone}`}
        style={style}
        {...(data.href === undefined ? {} : { href: data.href })}
        tabIndex={-1}
        title={`${data.name}\n${size}${data.note === undefined || data.note === '' ? '' : `\n${data.note}`}`}
      >
        {hasText && (
          <span class="tile-text">
            <span class="tile-name">{data.name}</span>
            <span class="tile-size">{size}</span>
          </span>
        )}
      </a>
    )
  })
}

function hasSize({ bytes, children }: Tile): boolean {
  return bytes > 0 || children?.some(hasSize) === true
}
