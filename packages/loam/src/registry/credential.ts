import type { LoamError } from '../errors/index.ts'

/** How to say who one is at one registry. `from` says where it was found, for messages. */
export type Credential =
  | {
      readonly kind: 'password'
      readonly username: string
      readonly password: string
      readonly from?: string
    }
  /** Exchanged for access tokens (OAuth 2 refresh token). */
  | { readonly kind: 'identity-token'; readonly token: string; readonly from?: string }
  /** Sent as it is. */
  | { readonly kind: 'registry-token'; readonly token: string; readonly from?: string }
  /** Whoever keeps it cannot say. One goes on without; when that is refused, this is why. */
  | { readonly kind: 'unavailable'; readonly reason: LoamError }

export type UsableCredential = Exclude<Credential, { readonly kind: 'unavailable' }>

/** Returns what Basic authentication sends (RFC 7617); empty without a password. */
export function basicHeader(credential: UsableCredential | undefined): string {
  if (credential?.kind !== 'password') return ''
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`
}
