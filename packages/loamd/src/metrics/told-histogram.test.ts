import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Registry } from 'prom-client'
import { ToldHistogram } from './told-histogram.ts'

test('a histogram that another process has counted is shown with buckets that include those below', async () => {
  const registry = new Registry()
  const histogram = new ToldHistogram({ name: 'waits', help: 'Waits.', buckets: [0.1, 1], registry })
  histogram.set({ counts: [2, 0, 1], sum: 5.5 })
  assert.equal(
    await registry.metrics(),
    `# HELP waits Waits.
# TYPE waits histogram
waits_bucket{le="0.1"} 2
waits_bucket{le="1"} 2
waits_bucket{le="+Inf"} 3
waits_sum 5.5
waits_count 3
`,
  )
})
