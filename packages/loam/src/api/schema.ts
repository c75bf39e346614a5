import * as v from 'valibot'
import { MAX_MODE, MAX_TIME_MS } from '../options/index.ts'
import type { ChainId, DiffId, Digest } from '../image/index.ts'

type Same<One, Other> = [One] extends [Other] ? ([Other] extends [One] ? unknown : never) : never

/**
 * Returns the schema of a type of the library. Compiles only if the schema's output is exactly that type, so that the two cannot
 * drift apart.
 */
export const matching =
  <Type>() =>
  <Schema extends v.GenericSchema<unknown, unknown>>(
    schema: Schema & Same<v.InferOutput<Schema>, Type>,
  ): v.GenericSchema<unknown, Type> =>
    schema as v.GenericSchema<unknown, Type>

/** A read-only list. */
export const list = <const Schema extends v.GenericSchema>(
  item: Schema,
): v.GenericSchema<readonly v.InferInput<Schema>[], readonly v.InferOutput<Schema>[]> => v.array(item)

/** A value that is undefined in the library where JSON leaves it out. */
export const orUndefined = <const Schema extends v.GenericSchema>(
  schema: Schema,
): v.OptionalSchema<Schema, () => undefined> => v.optional(schema, () => undefined)

const DIGEST_FORM = 'is not a digest: sha256: and 64 hex digits, or sha512: and 128'
/** Digest of a document or a blob. */
export const digest: v.GenericSchema<string, Digest> = v.pipe(
  v.string(),
  v.regex(/^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/, DIGEST_FORM),
  v.transform((value) => value as Digest),
)
/** Digest of the tar of a layer. */
export const diffId: v.GenericSchema<string, DiffId> = v.pipe(
  v.string(),
  v.regex(/^sha256:[0-9a-f]{64}$/, DIGEST_FORM),
  v.transform((value) => value as DiffId),
)
/** Digest of a stack of layers. */
export const chainId: v.GenericSchema<string, ChainId> = v.pipe(
  v.string(),
  v.regex(/^sha256:[0-9a-f]{64}$/, DIGEST_FORM),
  v.transform((value) => value as ChainId),
)
/** Bytes, files, or milliseconds. */
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
/** A time that a date has, in milliseconds since 1970 (ECMA-262, 21.4.1.1). */
export const timeMs = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_TIME_MS))
/** Permissions of a file. */
export const fileMode = v.pipe(count, v.maxValue(MAX_MODE))
/** Text that is not empty. */
export const text = v.pipe(v.string(), v.nonEmpty('is empty'))
/** Regular expression of paths, after their first slash, that are streams, descriptors or the terminal of the process that uses them. */
export const OWN_FILES = String.raw`(?:dev\/(?:stdin|stdout|stderr|tty|fd)|proc\/(?:self|thread-self))(?:\/|$)`

/** A path on the daemon's machine: absolute, and no standard stream, since the daemon has other ones, and another working directory. */
export const path = v.pipe(
  v.string(),
  v.regex(
    new RegExp(String.raw`^\/(?!${OWN_FILES})`),
    'is not an absolute path, or is a stream of the daemon itself',
  ),
)

/** The failure of one part, while the others continued. */
export const failure = v.object({ what: v.string(), reason: v.string() })
