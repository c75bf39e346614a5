import { type Digest, parseDigest } from '../image/index.ts'
import type { PolicyDecision } from '../policy/index.ts'
import type { Database, Row } from './database.ts'
import { integer, optionalText, text } from './rows.ts'

/** The rule that allowed an image, and when. */
export interface DecisionRecord extends PolicyDecision {
  /** When it was decided, in milliseconds since 1970. */
  readonly decidedAtMs: number
}

/** The decisions of the signature policy; a decision is removed with its image. */
export class DecisionTable {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Records decisions about an image; does nothing if the image is not in the store. */
  async put(imageDigest: Digest, decisions: readonly PolicyDecision[], nowMs: number): Promise<void> {
    await this.#database.durableTransaction(() => {
      for (const decision of decisions) this.#put(imageDigest, decision, nowMs)
    })
  }

  #put(imageDigest: Digest, decision: PolicyDecision, nowMs: number): void {
    const { repository, scope, policy, ruleDigest, signer } = decision
    this.#database.run(
      `INSERT OR REPLACE INTO decisions (image_digest, repository, scope, policy, rule_digest, signer, decided_at)
       SELECT digest, ?, ?, ?, ?, ?, ? FROM images WHERE digest = ?`,
      repository,
      scope,
      policy,
      ruleDigest,
      signer ?? null,
      nowMs,
      imageDigest,
    )
  }

  find(imageDigest: Digest, repository: string): DecisionRecord | undefined {
    return this.list(imageDigest).find((decision) => decision.repository === repository)
  }

  list(imageDigest: Digest): DecisionRecord[] {
    return this.#database
      .all('SELECT * FROM decisions WHERE image_digest = ? ORDER BY repository', imageDigest)
      .map(toDecision)
  }
}

function toDecision(row: Row): DecisionRecord {
  return {
    repository: text(row, 'repository'),
    scope: text(row, 'scope'),
    policy: text(row, 'policy'),
    ruleDigest: parseDigest(row['rule_digest']),
    signer: optionalText(row, 'signer'),
    decidedAtMs: integer(row, 'decided_at'),
  }
}
