import { bundleOf } from '../../scripts/bundle.js'

export default bundleOf({
  index: 'src/index.ts',
  client: 'src/client/index.ts',
  internal: 'src/internal.ts',
  testing: 'src/testing/index.ts',
  main: 'src/cli/main.ts',
  worker: 'src/transform/worker.ts',
  lazyd: 'src/lazy/main.ts',
  'event-thread': 'src/lazy/event-thread.ts',
  'fill-thread': 'src/lazy/fill-thread.ts',
})
