/** A part of a work that failed while the rest went on. */
export interface Failure {
  /** What it is about: a path, an id, a name. */
  readonly what: string
  /** Why it failed, as a sentence. */
  readonly reason: string
}
