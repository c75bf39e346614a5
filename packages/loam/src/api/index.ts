export { type DaemonStatus, DaemonStatusSchema } from './store.ts'
export { type Subscription, SUBSCRIPTIONS } from './events.ts'
export type { Download, EventOf, Operation, RequestOf, ResultOf } from './operation.ts'
export {
  DOWNLOADS,
  type Downloads,
  type OperationName,
  OPERATIONS,
  type Operations,
  SCHEMAS,
} from './operations.ts'
