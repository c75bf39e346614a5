export { parseMount, type RuntimeMount } from './mounts.ts'
export { mergeCommand, mergeEnv, type ProcessRequest, searchPath } from './process.ts'
export { makeRuntimeConfig, type RuntimeConfigInput } from './runtime-config.ts'
export { type AccountFiles, type ResolvedUser, resolveUser } from './users.ts'
