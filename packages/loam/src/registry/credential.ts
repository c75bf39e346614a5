import type { LoamError } from '../errors/index.ts'

/** A credential for one registry. `from` is for messages. */
export type Credential =
  | {
      /** A user with a password. */
      readonly kind: 'password'
      /** Name of the user. */
      readonly username: string
      /** The password. */
      readonly password: string
      /** The file or helper that it came from. */
      readonly from?: string
    }
  | {
      /** A token that is exchanged for access tokens (OAuth 2 refresh token). */
      readonly kind: 'identity-token'
      /** The token. */
      readonly token: string
      /** The file or helper that it came from. */
      readonly from?: string
    }
  | {
      /** A token that is sent unchanged. */
      readonly kind: 'registry-token'
      /** The token. */
      readonly token: string
      /** The file or helper that it came from. */
      readonly from?: string
    }
  | {
      /** The credential store failed. The request is made without a credential; if it is refused, this is the reason. */
      readonly kind: 'unavailable'
      /** The failure. */
      readonly reason: LoamError
    }

export type UsableCredential = Exclude<Credential, { readonly kind: 'unavailable' }>

/** Returns the header of Basic authentication (RFC 7617); empty without a password. */
export function basicHeader(credential: UsableCredential | undefined): string {
  if (credential?.kind !== 'password') return ''
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`
}
