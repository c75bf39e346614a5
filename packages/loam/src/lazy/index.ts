export { HandlerClient } from './client.ts'
export { type HandlerCaller, loamProgram, startHandler } from './start-handler.ts'
export type { LazyStatus } from './protocol.ts'
export { keepProbe, probeLazy, whyNoReads } from './probe.ts'
