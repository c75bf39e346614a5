import { closeSync, constants, openSync } from 'node:fs'
import { O_CLOEXEC } from './libc.ts'

/** Calls a function with the descriptor of a directory, which is open until it returns. @throws system errors */
export function withDirectory<T>(path: string, act: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | O_CLOEXEC)
  try {
    return act(fd)
  } finally {
    closeSync(fd)
  }
}
