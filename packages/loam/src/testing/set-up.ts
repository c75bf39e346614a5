import { after, before } from 'node:test'

/**
 * Creates the fixtures of a suite, and disposes of them after it. If that fails halfway, the existing fixtures are disposed of at once.
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
