export type { Credential } from './credential.ts'
export { type BlobRange, RegistryClient, type RegistryClientOptions } from './client.ts'
export {
  type CredentialSource,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  type FindCredentialOptions,
  firstCredentials,
} from './credentials.ts'
export { type HelperEnvironment, helperEnvironment } from './credential-helper.ts'
export {
  eraseLogin,
  hasLogin,
  listLogins,
  type Login,
  type LoginPlace,
  type LoginTarget,
  parseLoginTarget,
  storeLogin,
} from './auth-store.ts'
export { CredentialProviders, type PodTokens } from './credential-providers.ts'
export { type FetchedDocument, FileClient, type FileClientOptions } from './file-client.ts'
export type { FetchedManifest } from './manifests.ts'
export type { ProxyOptions } from './proxies.ts'
export type { RetryOptions, RetryWait } from './retry.ts'
