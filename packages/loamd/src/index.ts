/** Loam's daemon, for programs that carry it themselves. */
export { Daemon, type DaemonOptions } from './daemon.ts'
export { Log, LOG_LEVELS, type LogLevel } from './log.ts'
