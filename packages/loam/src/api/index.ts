export { OWN_FILES } from './schema.ts'
export { type DaemonStatus, DaemonStatusSchema } from './store.ts'
export { type Subscription, SUBSCRIPTIONS } from './events.ts'
export type {
  Conversation,
  Download,
  EventOf,
  Operation,
  ReplyOf,
  RequestOf,
  ResultOf,
  Upload,
} from './operation.ts'
export { RESULT_TRAILER } from './operation.ts'
export {
  type Conversations,
  CONVERSATIONS,
  DOWNLOADS,
  type Downloads,
  type OperationName,
  OPERATIONS,
  type Operations,
  SCHEMAS,
  UPLOADS,
  type Uploads,
} from './operations.ts'
