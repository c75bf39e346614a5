import type { ComponentChildren, VNode } from 'preact'
import { useEffect, useRef } from 'preact/hooks'

/** Whether somebody has gone from one view to another: the first one leaves the focus where the browser has it. */
let hasMoved = false

/** The title of a view. It takes the focus when the view appears, so that a screen reader says where one is. */
export function Heading({
  title,
  children,
}: {
  readonly title: string
  readonly children?: ComponentChildren
}): VNode {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${title} · Loam`
  }, [title])
  useEffect(() => {
    if (hasMoved) heading.current?.focus()
    hasMoved = true
  }, [])
  return (
    <div class="heading">
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      {children !== undefined && <div class="heading-actions">{children}</div>}
    </div>
  )
}
