import { after, before } from 'node:test'

/**
 * Sets up what the tests of a suite share, and disposes of it after them. When it fails halfway, what it has put on the stack goes at once.
 */
export function setUp(make: (held: AsyncDisposableStack) => Promise<void> | void): void {
  let held: AsyncDisposableStack | undefined
  before(async () => {
    await using stack = new AsyncDisposableStack()
    await make(stack)
    held = stack.move()
  })
  after(async () => {
    await held?.disposeAsync()
  })
}
