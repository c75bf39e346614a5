// What it means that standard output cannot be written, as errors/system.ts has it: loaded only for that. Plain JavaScript, as loam.cjs.
'use strict'

/** Node has no name for it: the quota of a user or a project is used up. */
const EDQUOT = -122

/** Returns the error of the command. */
function describeWriteError({ code, errno, syscall, message }) {
  const attempted = 'write standard output'
  const details = { errno: code, syscall }
  if (code !== 'ENOSPC' && errno !== EDQUOT)
    return { code: 'SYSTEM', kind: 'internal', text: `${attempted}: ${message}`, details }
  return {
    code: 'NO_SPACE',
    kind: 'resource_exhausted',
    text: `${attempted}: no space left (${message})`,
    hint: 'Make room on that file system. In the store, `loam prune`, `loam rmi` and `loam destroy` also work on a full disk; --root and --state choose other directories.',
    details,
  }
}

module.exports = { describeWriteError }
