import type { VNode } from 'preact'
import { question } from './open-dialog.ts'
import { PruneDialog } from './prune-dialog.tsx'
import { RemoveDialog } from './remove-dialog.tsx'

/** Shows the dialog that is open. */
export function Dialogs(): VNode | undefined {
  const asked = question.value
  if (asked === undefined) return undefined
  return asked.kind === 'prune' ? <PruneDialog /> : <RemoveDialog digest={asked.digest} />
}
