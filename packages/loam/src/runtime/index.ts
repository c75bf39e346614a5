export {
  type CommandInfo,
  type CommandVariable,
  mergeCommandInfo,
  parseCommandInfo,
  programOf,
  variablesOf,
} from './command-info.ts'
export { CAPABILITIES, capabilitiesOf } from './capabilities.ts'
export {
  type Confinement,
  type ConfinementOptions,
  type HostRights,
  planConfinement,
} from './confinement.ts'
export { execHelper } from './exec-helper.ts'
export {
  bindOptions,
  hostBindOptions,
  type ImageMount,
  parseImageMount,
  parseMount,
  parseTmpfs,
  type RuntimeMount,
} from './mounts.ts'
export { checkHostname, type Network } from './network.ts'
export {
  checkWords,
  type CommandRequest,
  ignoreRuntime,
  mergeCommand,
  mergeEnv,
  type ProcessRequest,
  readEnv,
  resetEntrypoint,
  searchPath,
} from './process.ts'
export { HEAD_BYTES, type ProgramFile, readProgramFile, type ReadPart } from './program-file.ts'
export { createRuntimeConfig, type RuntimeConfigInput } from './runtime-config.ts'
export { parseSeccompProfile, type SeccompProfile } from './seccomp.ts'
export { consoleOf, sizeAtStart, type TerminalSize } from './terminal-size.ts'
export { type AccountFiles, type ResolvedUser, resolveUser } from './users.ts'
