import type { VNode } from 'preact'
import { splitHost } from '../format.ts'

/** The name of an image; the registry's host is less important than the rest. */
export function ImageName({ name }: { readonly name: string }): VNode {
  const [host, rest] = splitHost(name)
  return (
    <>
      {host !== '' && <span class="host">{host}</span>}
      <span class="own-name">{rest}</span>
    </>
  )
}
