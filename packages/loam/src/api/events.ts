import * as v from 'valibot'
import { type ActivityEvent, meansOperation } from '../activity/index.ts'
import { ERRORS, type ErrorCode, type ErrorKind } from '../errors/index.ts'
import type { RequestSchema } from './operation.ts'
import { count, list, matching, orUndefined, text } from './schema.ts'

const fields = {
  id: count,
  parentId: orUndefined(count),
  requestId: orUndefined(v.string()),
  operation: v.string(),
  timeMs: count,
}
const attributes = v.record(v.string(), v.optional(v.union([v.string(), v.number(), v.boolean()])))
const progress = v.pipe(
  v.looseObject({}),
  v.transform((value): object => value),
)
const code = v.picklist(Object.keys(ERRORS) as ErrorCode[])
const kind = v.picklist([...new Set(Object.values(ERRORS))] as ErrorKind[])

/** Events of the operations on a store. */
export const ActivityEventSchema = matching<ActivityEvent>()(
  v.variant('kind', [
    v.object({ ...fields, kind: v.literal('start'), attributes }),
    v.object({ ...fields, kind: v.literal('progress'), progress }),
    v.object({
      ...fields,
      kind: v.literal('end'),
      attributes,
      durationMs: v.number(),
      error: orUndefined(v.object({ code, kind, message: v.string() })),
    }),
  ]),
)

/** An operation whose answer is a stream of JSON lines until its client closes the connection. */
export interface Subscription<Request, Event> {
  readonly method: 'GET'
  readonly path: string
  readonly summary: string
  readonly request: RequestSchema<Request>
  readonly event: v.GenericSchema<unknown, Event>
}

const subscription = <Request, Event>(
  definition: Subscription<Request, Event>,
): Subscription<Request, Event> => definition

/** The events of the daemon. */
export const SUBSCRIPTIONS = {
  'daemon.events': subscription({
    method: 'GET',
    path: '/v1/events',
    summary: 'Tell operations on the store as they begin, go on and end.',
    request: v.strictObject({
      /** Only these: a name as `images.pull`, or a kind of object as `images`. */
      operations: v.optional(
        list(
          v.pipe(
            text,
            v.check(meansOperation, 'is no operation, and no kind of object that operations are on'),
          ),
        ),
      ),
      /** Only these kinds of events. */
      kinds: v.optional(list(v.picklist(['start', 'progress', 'end']))),
    }),
    event: ActivityEventSchema,
  }),
}
