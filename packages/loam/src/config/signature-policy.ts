import { dirname, resolve } from 'node:path'
import { parse as parseToml } from 'smol-toml'
import { LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { parsePolicy, type SignaturePolicy } from '../policy/index.ts'

const MAX_FILE_BYTES = 1 << 20

/** Reads the signature policy, where names without a host are in `defaultRegistry`, with the keys and trust roots that it names, by paths from its folder. @throws CONFIG_INVALID and system errors */
export function readSignaturePolicy(path: string, defaultRegistry: string): SignaturePolicy {
  const what = `signature policy ${path}`
  let value: unknown
  const text = readSmallFile(path).toString('utf8')
  try {
    value = parseToml(text)
  } catch (error) {
    throw new LoamError('CONFIG_INVALID', `read ${what}: ${String(error)}`, { cause: error })
  }
  const readNamed = (named: string) => readSmallFile(resolve(dirname(path), named))
  return parsePolicy(value, { what, readNamed, defaultRegistry })
}

function readSmallFile(path: string): Buffer {
  try {
    return readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID')
  } catch (error) {
    throw toLoamError(error, `read ${path}`)
  }
}
