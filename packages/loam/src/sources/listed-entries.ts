import * as v from 'valibot'

/** A list in a document that anybody who may push can add to. */
export const listSchema = v.nullish(v.array(v.unknown()))

/** Returns the entries of a list that fit a schema. Others do not count, and do not prevent that these do. */
export function fittingEntries<const Schema extends v.GenericSchema>(
  schema: Schema,
  list: readonly unknown[] | null | undefined,
): v.InferOutput<Schema>[] {
  return (list ?? []).flatMap((entry) => {
    const result = v.safeParse(schema, entry)
    return result.success ? [result.output] : []
  })
}
