import { CONTAINER_CONVERSATIONS } from './container-processes.ts'
import { CONTAINER_DOWNLOADS, CONTAINER_UPLOADS } from './container-streams.ts'
import { CONTAINER_SCHEMAS, CONTAINERS } from './containers.ts'
import { ActivityEventSchema } from './events.ts'
import { IMAGE_SCHEMAS, IMAGE_UPLOADS, IMAGES } from './images.ts'
import { ARCHIVE_UPLOADS, IMAGE_DOWNLOADS, REMOTE_IMAGES } from './remote-images.ts'
import { SNAPSHOT_DOWNLOADS, SNAPSHOT_SCHEMAS, SNAPSHOTS } from './snapshots.ts'
import { STORE, STORE_SCHEMAS } from './store.ts'
import { UI } from './ui.ts'

/**
 * The contract of the daemon's API: each operation by its name. Server, client, OpenAPI description and documents are made from this table. Names of
 * images, containers and snapshots are in the query or the body, never in a path: they contain slashes.
 */
export const OPERATIONS = { ...STORE, ...IMAGES, ...REMOTE_IMAGES, ...CONTAINERS, ...SNAPSHOTS, ...UI }
/** The operations that answer with a stream. */
export const DOWNLOADS = { ...CONTAINER_DOWNLOADS, ...SNAPSHOT_DOWNLOADS, ...IMAGE_DOWNLOADS }
/** The operations that take a stream. */
export const UPLOADS = { ...IMAGE_UPLOADS, ...ARCHIVE_UPLOADS, ...CONTAINER_UPLOADS }
/** The operations in which the client has a part. */
export const CONVERSATIONS = CONTAINER_CONVERSATIONS
/** Schemas with a name in the description, by that name. */
export const SCHEMAS = {
  ...IMAGE_SCHEMAS,
  ...CONTAINER_SCHEMAS,
  ...SNAPSHOT_SCHEMAS,
  ...STORE_SCHEMAS,
  ActivityEvent: ActivityEventSchema,
}
/** The table's type. */
export type Operations = typeof OPERATIONS
/** Name of an operation, as `images.pull`. */
export type OperationName = keyof Operations
/** Type of the table of streams. */
export type Downloads = typeof DOWNLOADS
/** Type of the table of streams that clients send. */
export type Uploads = typeof UPLOADS
/** Type of the table of operations in which the client has a part. */
export type Conversations = typeof CONVERSATIONS
