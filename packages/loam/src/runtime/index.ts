export {
  type CommandInfo,
  mergeCommandInfo,
  parseCommandInfo,
  programOf,
  variablesOf,
} from './command-info.ts'
export { execHelper } from './exec-helper.ts'
export { type ImageMount, parseImageMount, parseMount, type RuntimeMount } from './mounts.ts'
export {
  type CommandRequest,
  ignoreRuntime,
  mergeCommand,
  mergeEnv,
  type ProcessRequest,
  searchPath,
} from './process.ts'
export { makeRuntimeConfig, type RuntimeConfigInput } from './runtime-config.ts'
export { type AccountFiles, type ResolvedUser, resolveUser } from './users.ts'
