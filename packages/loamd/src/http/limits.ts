/*
 * Limits of the API. A client of the socket is as powerful as root, so they protect against mistakes: a client that hangs, that never
 * ends a request, or that opens connections in a loop.
 */

/** Bytes of the request line and all headers. */
export const MAX_HEADER_BYTES = 16 << 10
/** Connections at the same time; the next one is answered 503. */
export const MAX_CONNECTIONS = 4096
/** How long a client may take to send its headers. */
export const HEADERS_TIMEOUT_MS = 10_000
/** How long a client may take to send a body of JSON. */
export const REQUEST_TIMEOUT_MS = 60_000
/** How long a connection without a request stays open. */
export const IDLE_TIMEOUT_MS = 60_000
/** How often connections are checked for these timeouts. */
export const CHECK_INTERVAL_MS = 5_000
/** Bytes of a request's JSON. */
export const MAX_BODY_BYTES = 1 << 20
/** Requests in progress at the same time; the next one is answered 503. */
export const MAX_REQUESTS = 2048
/** Limit of unread bytes of events for one client; later events are dropped, and their number is reported. */
export const MAX_WAITING_BYTES = 256 << 10
