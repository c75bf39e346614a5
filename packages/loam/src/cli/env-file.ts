import { resolve } from 'node:path'
import type { Option } from 'commander'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { completes } from './completion/values.ts'
import type { Host } from './host.ts'
import { repeated } from './image-options.ts'

const MAX_BYTES = 1 << 20

/** Returns the option for files of variables. */
export function envFileOption(): Option {
  const help = 'file of environment variables, NAME=VALUE lines; repeatable'
  return completes(repeated('--env-file <file>', help), 'files')
}

/** Reads files of `--env-file`. @throws USAGE, SOURCE_NOT_FOUND */
export function readEnvFiles(paths: readonly string[], { cwd, env }: Pick<Host, 'cwd' | 'env'>): string[] {
  return paths.flatMap((path) => parseEnvFile(readText(path, cwd), path, env))
}

function readText(path: string, cwd: string): string {
  try {
    return readRegular(resolve(cwd, path), MAX_BYTES, 'USAGE').toString('utf8')
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw toLoamError(error, `read ${path}`)
    throw new LoamError('SOURCE_NOT_FOUND', `read --env-file ${path}: it does not exist`, { cause: error })
  }
}

/**
 * Parses the lines of a file of variables as docker and podman do: KEY=VALUE, taken literally, also its quotes; KEY alone for a
 * variable of the caller, if it is set; comments begin with #. @throws USAGE
 */
export function parseEnvFile(
  text: string,
  path: string,
  own: Readonly<Record<string, string | undefined>>,
): string[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  return lines.flatMap((line, index) => {
    const entry = line.trimStart()
    if (entry === '' || entry.startsWith('#')) return []
    const equals = entry.indexOf('=')
    const key = equals < 0 ? entry.trimEnd() : entry.slice(0, equals)
    if (key === '' || /[\s\0]/.test(key)) {
      throw new LoamError('USAGE', `read --env-file ${path}: line ${index + 1} does not begin with a name`, {
        hint: 'Each line is NAME=VALUE, NAME alone, or a comment that begins with #.',
      })
    }
    if (equals >= 0) return [entry]
    return Object.hasOwn(own, key) && own[key] !== undefined ? [`${key}=${own[key]}`] : []
  })
}
