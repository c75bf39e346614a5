import { type ErrorKind, LoamError } from 'loamfs'
import { currentRequest, toLoamError } from 'loamfs/internal'

/** Media type of an error (RFC 9457). */
export const PROBLEM_TYPE = 'application/problem+json'

const STATUSES: Readonly<Record<ErrorKind, { readonly status: number; readonly title: string }>> = {
  invalid_argument: { status: 400, title: 'Invalid request' },
  not_found: { status: 404, title: 'Not found' },
  already_exists: { status: 409, title: 'Already exists' },
  permission_denied: { status: 403, title: 'Permission denied' },
  // Not 401: the registry asks for credentials, and not this server.
  unauthenticated: { status: 403, title: 'Credentials required' },
  failed_precondition: { status: 409, title: 'Failed precondition' },
  aborted: { status: 409, title: 'In progress' },
  // Not 429: most clients would send the request again.
  resource_exhausted: { status: 507, title: 'Limit reached' },
  unavailable: { status: 503, title: 'Unavailable' },
  data_loss: { status: 500, title: 'Damaged data' },
  unimplemented: { status: 501, title: 'Not supported' },
  canceled: { status: 499, title: 'Canceled' },
  internal: { status: 500, title: 'Internal error' },
}

/** An invalid request whose HTTP status says more than its code. */
export class HttpError extends LoamError {
  readonly status: number

  constructor(status: number, message: string) {
    super('USAGE', message)
    this.status = status
  }
}

/** An error of the API as a problem document. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly kind: ErrorKind
  readonly hint?: string
  readonly details: Readonly<Record<string, string | number | boolean>>
  /** Id of the request. */
  readonly requestId?: string
}

/** Returns the problem document for an error. */
export function toProblem(error: unknown): Problem {
  const { code, kind, message, hint, details } = toLoamError(error, 'loamd')
  const { status: ofKind, title } = STATUSES[kind]
  const { requestId } = currentRequest()
  const plain = Object.entries(details).map(([name, value]) => [
    name,
    typeof value === 'bigint' ? Number(value) : value,
  ])
  return {
    type: `urn:loam:error:${code}`,
    title,
    status: error instanceof HttpError ? error.status : ofKind,
    detail: message,
    code,
    kind,
    ...(hint === undefined ? {} : { hint }),
    details: Object.fromEntries(plain),
    ...(requestId === undefined ? {} : { requestId }),
  }
}
