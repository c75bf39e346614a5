import type { VNode } from 'preact'

/** A part of a bar. */
export interface BarPart {
  readonly bytes: number
  readonly tone: string
}

/** Draws parts of a whole beside each other. The numbers are beside it as text, so that it says nothing to a screen reader. */
export function Bar({ parts, whole }: { readonly parts: readonly BarPart[]; readonly whole: number }): VNode {
  return (
    <span class="bar" aria-hidden="true">
      {parts.map(({ bytes, tone }) => (
        <span
          key={tone}
          class={`bar-part ${tone}`}
          style={{ width: `${whole > 0 ? (100 * bytes) / whole : 0}%` }}
        />
      ))}
    </span>
  )
}
