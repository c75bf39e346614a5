export { type DaemonStatus, DaemonStatusSchema } from './store.ts'
export { type Subscription, SUBSCRIPTIONS } from './events.ts'
export type { Download, EventOf, Operation, RequestOf, ResultOf, Upload } from './operation.ts'
export {
  DOWNLOADS,
  type Downloads,
  type OperationName,
  OPERATIONS,
  type Operations,
  SCHEMAS,
  UPLOADS,
  type Uploads,
} from './operations.ts'
