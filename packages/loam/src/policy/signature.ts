/** Largest payload or bundle that is read. */
export const MAX_SIGNATURE_BYTES = 1 << 20

/** The type of statement that cosign signs; other statements about an image are not signatures. */
export const SIGNATURE_PREDICATE = 'https://sigstore.dev/cosign/sign/v1'

/** A signature of an image, unverified. */
export type Signature =
  /** cosign's first form: a payload that names the image, and a signature of it. */
  | { readonly kind: 'simple'; readonly payload: Buffer; readonly signature: string }
  /** A sigstore bundle: everything that is needed to verify it offline. */
  | { readonly kind: 'bundle'; readonly bytes: Buffer }
  /** Something in the place of a signature that cannot be read. */
  | { readonly kind: 'unreadable'; readonly why: string }

/** The signer, or why the signature does not count. */
export type Verdict = { readonly signer: string } | { readonly refused: string }
