import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDiffId } from '../image/index.ts'
import type { PartialLayerInfo } from '../lazy/index.ts'
import { dataField, describeData, inJson } from './missing-data.ts'

const partial = (change: Partial<PartialLayerInfo>): PartialLayerInfo => ({
  diffId: parseDiffId(`sha256:${'a'.repeat(64)}`),
  presentBytes: 1_000_000,
  totalBytes: 3_000_000,
  waitingReads: 0,
  failure: undefined,
  images: [],
  containers: [],
  ...change,
})

test('a list says how many bytes are missing, and whether reads wait for data that does not come', () => {
  const failure = 'fetch blob: 503'
  assert.deepEqual(
    [
      describeData([]),
      describeData([partial({})]),
      describeData([partial({}), partial({ failure })]),
      describeData([partial({ failure, waitingReads: 2 })]),
    ],
    ['complete', '2.00 MB missing', '4.00 MB missing, stalled', '2.00 MB missing, starved'],
  )
})

test('a list has a column for missing data only if a row misses some', () => {
  const partials = [partial({})]
  assert.deepEqual(
    [[], [{ partials: [] }], [{ partials: [] }, { partials }]].map((rows) => dataField(rows).isHidden),
    [true, true, false],
  )
  assert.deepEqual(
    [inJson([{ partials: [] }]), inJson([{ partials }, { partials }])],
    [{}, { partialLayers: partials }],
  )
})
