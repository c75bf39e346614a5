/** One thing about a client's configuration. */
export interface NodeFinding {
  /** `right`; `missing` or `wrong`, with what to do; `note`. */
  readonly status: 'right' | 'missing' | 'wrong' | 'note'
  /** The part of the configuration. */
  readonly what: string
  /** A sentence about it. */
  readonly message: string
  /** Lines to write to the configuration file. */
  readonly write?: string
  /** Command to run. */
  readonly run?: string
}

/** Report about a client of the snapshotter. */
export interface NodeReport {
  /** Configuration file. */
  readonly config: string
  /** Version of the client; undefined if none runs. */
  readonly version: string | undefined
  /** What was found, in the order of the configuration. */
  readonly findings: readonly NodeFinding[]
}

/** Returns whether something is missing or wrong. */
export function hasProblems({ findings }: NodeReport): boolean {
  return findings.some(({ status }) => status === 'missing' || status === 'wrong')
}
