/**
 * The kinds are gRPC's status names, so that every edge (gRPC, HTTP, exit status)
 * translates a kind once and does not need to know the codes.
 */
export type ErrorKind =
  | 'invalid_argument'
  | 'not_found'
  | 'already_exists'
  | 'permission_denied'
  | 'unauthenticated'
  | 'failed_precondition'
  | 'aborted'
  | 'resource_exhausted'
  | 'unavailable'
  | 'data_loss'
  | 'unimplemented'
  | 'canceled'
  | 'internal'

const TABLE = {
  // the request
  USAGE: 'invalid_argument',
  REFERENCE_INVALID: 'invalid_argument',
  DIGEST_INVALID: 'invalid_argument',
  PLATFORM_INVALID: 'invalid_argument',
  ID_INVALID: 'invalid_argument',
  CONFIG_INVALID: 'invalid_argument',
  CANCELED: 'canceled',
  // the content of an image
  DOCUMENT_INVALID: 'invalid_argument',
  DOCUMENT_TOO_LARGE: 'resource_exhausted',
  MEDIA_TYPE_UNSUPPORTED: 'unimplemented',
  PLATFORM_NOT_FOUND: 'not_found',
  DIGEST_MISMATCH: 'data_loss',
  SIZE_MISMATCH: 'data_loss',
  COMPRESSION_INVALID: 'data_loss',
  LAZY_INDEX_INVALID: 'data_loss',
  TAR_INVALID: 'data_loss',
  TAR_UNSAFE: 'invalid_argument',
  LAYER_LIMIT: 'resource_exhausted',
  // the source of an image
  SOURCE_INVALID: 'invalid_argument',
  SOURCE_NOT_FOUND: 'not_found',
  REGISTRY_UNREACHABLE: 'unavailable',
  REGISTRY_TLS: 'unavailable',
  REGISTRY_RESPONSE: 'unavailable',
  REGISTRY_STALLED: 'unavailable',
  REGISTRY_UNAUTHORIZED: 'unauthenticated',
  REGISTRY_DENIED: 'permission_denied',
  REGISTRY_RATE_LIMITED: 'resource_exhausted',
  IMAGE_NOT_FOUND: 'not_found',
  CREDENTIALS_INVALID: 'unauthenticated',
  SIGNATURE_INVALID: 'permission_denied',
  POLICY_REFUSED: 'permission_denied',
  // this machine
  PERMISSION_DENIED: 'permission_denied',
  NO_SPACE: 'resource_exhausted',
  READ_ONLY: 'failed_precondition',
  SYSTEM: 'internal',
  PROGRAM_FAILED: 'internal',
  UNSUPPORTED_SYSTEM: 'unimplemented',
  // the store
  STORE_FORMAT: 'failed_precondition',
  STORE_UNSAFE: 'failed_precondition',
  STORE_BUSY: 'unavailable',
  DAEMON_UNAVAILABLE: 'unavailable',
  DAEMON_LOST: 'unavailable',
  DOCUMENT_DAMAGED: 'data_loss',
  LAYER_NOT_FOUND: 'not_found',
  LAZY_UNAVAILABLE: 'unavailable',
  LAYER_UNSUPPORTED: 'failed_precondition',
  LAYER_DAMAGED: 'data_loss',
  EROFS_INVALID: 'data_loss',
  IMAGE_IN_USE: 'failed_precondition',
  NAME_TAKEN: 'already_exists',
  OUTPUT_EXISTS: 'already_exists',
  OUTPUT_CLOSED: 'canceled',
  INDEX_EXISTS: 'already_exists',
  // root filesystems and processes
  BACKEND_UNKNOWN: 'invalid_argument',
  BACKEND_UNSUPPORTED: 'unimplemented',
  ROOTFS_UNMOUNTED: 'failed_precondition',
  CONTAINER_EXISTS: 'already_exists',
  CONTAINER_NOT_FOUND: 'not_found',
  CONTAINER_NOT_RUNNING: 'failed_precondition',
  CONTAINER_RUNNING: 'failed_precondition',
  CONTAINER_NOT_DETACHED: 'failed_precondition',
  DESTROY_FAILED: 'internal',
  VOLUMES_FAILED: 'internal',
  VOLUME_EXISTS: 'already_exists',
  VOLUME_NOT_FOUND: 'not_found',
  VOLUME_BUSY: 'aborted',
  USER_NOT_FOUND: 'invalid_argument',
  COMMAND_NOT_FOUND: 'not_found',
  PATH_NOT_FOUND: 'not_found',
  COMMAND_NOT_EXECUTABLE: 'permission_denied',
  RUNTIME_FAILED: 'internal',
  // snapshots
  SNAPSHOT_INVALID: 'invalid_argument',
  SNAPSHOT_NOT_FOUND: 'not_found',
  SNAPSHOT_EXISTS: 'already_exists',
  SNAPSHOT_IN_USE: 'failed_precondition',
  SNAPSHOT_KIND: 'failed_precondition',
  // Loam itself
  INTERNAL: 'internal',
} as const satisfies Record<string, ErrorKind>

/** A key of the table of errors. */
export type ErrorCode = keyof typeof TABLE

/** Every error that a caller may get, with its kind. docs/errors.md has one section for each; a test compares the two. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorKind>> = TABLE
