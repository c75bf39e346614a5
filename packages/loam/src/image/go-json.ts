/*
 * Schemas for documents that programs in Go write and read, with the semantics of Go's encoding/json:
 * - null for a list, a map or a pointer is its nil, and null for anything else changes nothing: both are "absent" here.
 * - A key names a field whatever its case. Where Go takes the last one of several such keys, the document is refused:
 *   two readers may take different ones.
 * - Unknown keys are ignored.
 * Source: https://pkg.go.dev/encoding/json#Unmarshal.
 */
import * as v from 'valibot'

/** A string; empty if it is absent. */
export const goText = v.nullish(v.string(), '')

/** A []string. */
export const goTexts = v.nullish(v.array(goText), () => [])

/** A map[string]string. */
export const goTextMap = v.nullish(v.record(v.string(), goText), () => ({}))

/** A list of something. */
export function goList<const Item extends v.GenericSchema>(
  item: Item,
): v.GenericSchema<unknown, v.InferOutput<Item>[]> {
  return v.nullish(v.array(item), () => [])
}

/** A struct. An absent one has only absent fields. */
export function goStruct<const Entries extends v.ObjectEntries>(
  entries: Entries,
): v.GenericSchema<unknown, v.InferOutput<v.ObjectSchema<Entries, undefined>>> {
  const fields = new Map(Object.keys(entries).map((name) => [fold(name), name]))
  return v.pipe(
    v.nullish(v.custom<Readonly<Record<string, unknown>>>(isObject, 'is not an object'), () => ({})),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const { values, twice } = nameFields(dataset.value, fields)
      if (twice === undefined) return values
      addIssue({ message: `has the key ${JSON.stringify(twice)} twice, in different cases` })
      return NEVER
    }),
    v.object(entries),
  )
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Gives each value the name of its field. */
function nameFields(
  value: Readonly<Record<string, unknown>>,
  fields: ReadonlyMap<string, string>,
): { values: Record<string, unknown>; twice: string | undefined } {
  const values: Record<string, unknown> = {}
  for (const key of Object.keys(value)) {
    const field = fields.get(fold(key))
    if (field === undefined) continue
    if (Object.hasOwn(values, field)) return { values, twice: field }
    values[field] = value[key]
  }
  return { values, twice: undefined }
}

/** Two characters beyond ASCII fold to letters of names of fields: the Kelvin sign, which toLowerCase knows, and the long s. */
function fold(name: string): string {
  return name.toLowerCase().replaceAll('ſ', 's')
}
