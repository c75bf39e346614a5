import { signal } from '@preact/signals'

/** A question that is asked before something is removed. */
export type Question = { readonly kind: 'prune' } | { readonly kind: 'remove'; readonly digest: string }

/** The dialog that is open. */
export const question = signal<Question | undefined>(undefined)

/** Opens a dialog. */
export function openDialog(next: Question): void {
  question.value = next
}

/** Closes the dialog that is open. */
export function closeDialog(): void {
  question.value = undefined
}
