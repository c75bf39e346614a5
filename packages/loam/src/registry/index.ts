export { type FetchedManifest, RegistryClient, type RegistryClientOptions } from './client.ts'
export {
  type CredentialSource,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  firstCredentials,
} from './credentials.ts'
export { helperEnvironment } from './credential-helper.ts'
export { type FetchedDocument, FileClient, type FileClientOptions } from './file-client.ts'
export type { ProxyOptions } from './proxies.ts'
export type { RetryOptions, RetryWait } from './retry.ts'
