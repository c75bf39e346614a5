/** Largest payload or bundle that is read. */
export const MAX_SIGNATURE_BYTES = 1 << 20

/** A signature of an image, unverified. */
export type Signature =
  /** cosign's first form: a payload that names the image, and a signature of it. */
  | { readonly kind: 'simple'; readonly payload: Buffer; readonly signature: string }
  /** A sigstore bundle: everything that is needed to verify it offline. */
  | { readonly kind: 'bundle'; readonly bytes: Buffer }

/** The signer, or why the signature does not count. */
export type Verdict = { readonly signer: string } | { readonly refused: string }
