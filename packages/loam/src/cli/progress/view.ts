/** A way to show work in progress. */
export interface ProgressView {
  /** There is work. `purpose` says what for, where nothing else is known. */
  readonly begin: (purpose?: string) => void
  /** Makes room for other text. */
  readonly clear: () => void
  /** Ends the display. */
  readonly end: () => void
  /** Whether the user has seen the work in progress. */
  readonly hasShown: boolean
}
