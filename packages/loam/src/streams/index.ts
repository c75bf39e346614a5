export { type LineLimits, readLines } from './lines.ts'
export { StartedStream, startReading } from './started-stream.ts'
