/** Loam's daemon, for programs that embed it. */
export { Daemon, type DaemonOptions } from './daemon.ts'
export { Log, LOG_LEVELS, type LogLevel } from './log.ts'
