/** The longest time that a timer of Node can wait, 24 days; after a longer one it fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1
