import { createHash } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { parse as parseToml } from 'smol-toml'
import { LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { parsePolicy, type SignaturePolicy } from '../policy/index.ts'

const MAX_FILE_BYTES = 1 << 20

/** A signature policy, and its identity. */
export interface ReadPolicy {
  readonly policy: SignaturePolicy
  /** Digest of all files that it was read from, and of the options for reading them. */
  readonly fingerprint: string
}

/** Reads the signature policy with its keys and trust roots. Names without a host are in `defaultRegistry`. @throws CONFIG_INVALID and system errors */
export function readSignaturePolicy(path: string, defaultRegistry: string): ReadPolicy {
  const what = `signature policy ${path}`
  let value: unknown
  const hash = createHash('sha256').update(defaultRegistry)
  const read = (file: string) => {
    const bytes = readSmallFile(file)
    hash.update(`${file}\0${bytes.length}\0`).update(bytes)
    return bytes
  }
  const text = read(path).toString('utf8')
  try {
    value = parseToml(text)
  } catch (error) {
    throw new LoamError('CONFIG_INVALID', `read ${what}: ${String(error)}`, { cause: error })
  }
  const readNamed = (named: string) => read(resolve(dirname(path), named))
  const policy = parsePolicy(value, { what, readNamed, defaultRegistry })
  return { policy, fingerprint: hash.digest('hex') }
}

function readSmallFile(path: string): Buffer {
  try {
    return readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID')
  } catch (error) {
    throw toLoamError(error, `read ${path}`)
  }
}
