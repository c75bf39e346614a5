import { type CredentialSource, credentialsFromConfig, credentialsOfUser, LoamError } from 'loamfs'
import { TOKENS } from './pod-tokens.ts'
import { parseSecretObject } from './secret-json.ts'

const CONFIG = '.dockerconfigjson'
const OLD_CONFIG = '.dockercfg'

/**
 * Returns the credentials in the secrets of a volume; undefined if it has none. They are in memory alone, for one pull. Helpers that a secret names are
 * not started: they would run as root on this machine. @throws CREDENTIALS_INVALID for secrets of another form
 */
export function credentialsOfSecrets(
  secrets: Readonly<Record<string, string>>,
): CredentialSource | undefined {
  const { [CONFIG]: config, [OLD_CONFIG]: old, username, password } = secrets
  if (config !== undefined) return credentialsFromConfig(onlyAuths(config), CONFIG)
  if (old !== undefined)
    return credentialsFromConfig(JSON.stringify({ auths: parse(old, OLD_CONFIG) }), OLD_CONFIG)
  if (username !== undefined && password !== undefined) return credentialsOfUser(username, password)
  if (Object.keys(secrets).every((key) => key === TOKENS)) return undefined
  throw new LoamError(
    'CREDENTIALS_INVALID',
    'read the secret of the volume: it has no credentials of a registry',
    {
      hint: `Name a secret of the type kubernetes.io/dockerconfigjson, or one with the keys username and password.`,
    },
  )
}

function onlyAuths(config: string): string {
  const value = parse(config, CONFIG)
  return JSON.stringify({ auths: 'auths' in value ? value.auths : {} })
}

function parse(text: string, key: string): object {
  const value = parseSecretObject(text)
  if (value !== undefined) return value
  throw new LoamError('CREDENTIALS_INVALID', `read the secret of the volume: ${key} is not a JSON object`)
}
