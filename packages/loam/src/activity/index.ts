export {
  Activity,
  type ActivityEvent,
  type ActivityObserver,
  type Attributes,
  type EndEvent,
  type OperationError,
  type ProgressEvent,
  type Span,
  type SpanPart,
  type StartEvent,
} from './activity.ts'
