export { HandlerClient } from './client.ts'
export { type HandlerCaller, startHandler } from './start-handler.ts'
export type { LazyStatus } from './protocol.ts'
export { probeLazy } from './probe.ts'
