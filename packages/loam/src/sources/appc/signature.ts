import { existsSync, writeFileSync } from 'node:fs'
import { LoamError, toLoamError } from '../../errors/index.ts'
import { findProgram, runProgram, readRegular, toolEnvironment } from '../../linux/index.ts'

const ARMOR =
  /-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[\w-]+: .*\r?\n)*\r?\n([\s\S]*?)\r?\n(?:=[\w+/=]{4,8}\r?\n)?-----END PGP PUBLIC KEY BLOCK-----/g
const MAX_KEYRING_BYTES = 16 << 20
const GPGV_TIMEOUT_MS = 600_000

export interface SignatureOptions {
  /** File with the public keys that are trusted, as `gpg --export` writes them, armored or not. */
  readonly keyring: string
  /** Where to look up programs. */
  readonly path: string
  readonly newPath: () => string
  readonly signal: AbortSignal | undefined
}

/** Checks a file's detached OpenPGP signature by one of the trusted keys. @throws SIGNATURE_INVALID, CONFIG_INVALID */
export async function checkSignature(
  file: { readonly path: string; readonly signaturePath: string; readonly what: string },
  { keyring, path, newPath, signal }: SignatureOptions,
): Promise<void> {
  const program = findProgram('gpgv', path)
  if (program === undefined) {
    throw new LoamError(
      'CONFIG_INVALID',
      `verify ${file.what}: appc_keyring is set, but gpgv is not installed`,
      {
        hint: 'apt-get install gpgv, or remove appc_keyring from the configuration.',
      },
    )
  }
  const { status, stderr } = await runProgram(
    program,
    ['--keyring', readKeyring(keyring, newPath), file.signaturePath, file.path],
    { timeoutMs: GPGV_TIMEOUT_MS, env: toolEnvironment(path), signal },
  )
  if (status === 0) return
  const words = stderr
    .split('\n')
    .map((line) => line.replace(/^gpgv: /, '').trim())
    .filter((line) => line !== '')
  throw new LoamError('SIGNATURE_INVALID', `verify ${file.what}: ${words.join('; ').slice(0, 500)}`, {
    hint: `Only images signed with a key of ${keyring} are accepted (appc_keyring).`,
  })
}

/** Returns the path of a binary keyring: gpgv cannot read an armored one. */
function readKeyring(keyring: string, newPath: () => string): string {
  if (!existsSync(keyring))
    throw new LoamError('CONFIG_INVALID', `read ${keyring} (appc_keyring): no such file`)
  let text: string
  try {
    text = readRegular(keyring, MAX_KEYRING_BYTES, 'CONFIG_INVALID').toString('latin1')
  } catch (error) {
    throw toLoamError(error, `read ${keyring} (appc_keyring)`)
  }
  const blocks = [...text.matchAll(ARMOR)].map(([, body = '']) => Buffer.from(body, 'base64'))
  if (blocks.length === 0) return keyring
  const path = newPath()
  writeFileSync(path, Buffer.concat(blocks), { mode: 0o600 })
  return path
}
