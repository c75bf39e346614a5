/** A part of an operation that failed while the rest continued. */
export interface Failure {
  /** The subject: a path, an ID, a name. */
  readonly what: string
  /** Why it failed, as a sentence. */
  readonly reason: string
}
