import * as v from 'valibot'
import { operation } from './operation.ts'
import { text } from './schema.ts'

/** Operations on the web page. */
export const UI = {
  'ui.open': operation({
    method: 'POST',
    path: '/v1/ui',
    summary:
      'Serve the web page at a port of the loopback interface, if it is not served, and return its address.',
    request: v.strictObject({}),
    result: v.object({
      /** URL of the page, with a token in its fragment that allows to see the store and to remove images. */
      address: text,
    }),
  }),
  'ui.close': operation({
    method: 'DELETE',
    path: '/v1/ui',
    summary: 'End serving the web page, and the validity of its address.',
    request: v.strictObject({}),
    result: v.object({
      /** Whether the page was served. */
      closed: v.boolean(),
    }),
  }),
}
