/**
 * What programs of this project share besides the library: the daemon imports it as `loamfs/internal`.
 * Outside of semantic versioning: any release may change or remove any of it.
 */
export { isErrno, redact, toLoamError } from './errors/index.ts'
export { createDirectories, endWithoutHandlers, peerGroups, peerUser, protectMemory } from './linux/index.ts'
