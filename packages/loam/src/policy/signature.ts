/** Largest payload or bundle that is read. */
export const MAX_SIGNATURE_BYTES = 1 << 20

/** A signature of an image, as it was found; nothing of it is trusted. */
export type Signature =
  /** cosign's first form: a payload that names the image, and a signature of it. */
  | { readonly kind: 'simple'; readonly payload: Buffer; readonly signature: string }
  /** A sigstore bundle: all that it takes to check it offline. */
  | { readonly kind: 'bundle'; readonly bytes: Buffer }

/** Who signed, or why this counts for nothing. */
export type Verdict = { readonly signer: string } | { readonly refused: string }
