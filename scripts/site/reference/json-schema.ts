// Tables of the fields that a JSON schema describes.
import { code, table } from '../markdown.ts'

/** The part of JSON Schema that the API's description uses. */
export interface JsonSchema {
  readonly $ref?: string
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly pattern?: string
  readonly items?: JsonSchema
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | boolean
  readonly required?: readonly string[]
  readonly oneOf?: readonly JsonSchema[]
  readonly anyOf?: readonly JsonSchema[]
  readonly description?: string
}

interface Field {
  readonly name: string
  readonly schema: JsonSchema
  readonly isRequired: boolean
}

/** How tables write what a schema leaves open. */
export interface TableOptions {
  /** Address of the page of named schemas. */
  readonly schemas: string
  /** Returns what a field means; undefined: nothing is known. */
  readonly meaningOf?: (name: string, isRequired: boolean) => string | undefined
}

/** Returns the fields of a schema as tables: one, or one for each variant. */
export function schemaTables(schema: JsonSchema, options: TableOptions): string {
  const variants = schema.oneOf ?? schema.anyOf ?? []
  const objects = variants.filter(({ properties }) => properties !== undefined)
  if (objects.length === 0) return fieldTable(fieldsOf(schema), schema, options)
  const others = variants.filter((each) => !objects.includes(each))
  const tables = objects.map((variant) => {
    const label = labelOf(variant)
    const fields = fieldsOf(variant).filter(({ name }) => label === undefined || name !== label.name)
    const heading = label === undefined ? '' : `**${code(`${label.name}: ${label.value}`)}**\n\n`
    return `${heading}${fieldTable(fields, variant, options)}`
  })
  const words = others.map((each) => typeText(each, options.schemas)).join(' or ')
  return [...(words === '' ? [] : [`A ${words}, or:`]), ...tables].join('\n\n')
}

/** Returns the type of a value in words, with links to named schemas. */
export function typeText(schema: JsonSchema, schemas: string): string {
  const { $ref, items, pattern, type } = schema
  if ($ref !== undefined) {
    const name = $ref.split('/').at(-1) ?? ''
    return `[${name}](${schemas}#${name.toLowerCase()})`
  }
  if (schema.const !== undefined) return code(JSON.stringify(schema.const))
  if (schema.enum !== undefined)
    return schema.enum.length > 20 ? 'a word' : schema.enum.map((each) => code(String(each))).join(', ')
  if (items !== undefined) return `list of ${typeText(items, schemas)}`
  const variants = schema.oneOf ?? schema.anyOf
  if (variants !== undefined)
    return [...new Set(variants.map((each) => typeText(each, schemas)))].join(' or ')
  if (pattern?.includes('sha256') === true) return 'digest'
  if (pattern?.startsWith(String.raw`^\/`) === true) return 'absolute path'
  const { additionalProperties } = schema
  if (type === 'object' && typeof additionalProperties === 'object')
    return `object of ${typeText(additionalProperties, schemas)}`
  return type ?? 'any value'
}

function fieldTable(
  fields: readonly Field[],
  whole: JsonSchema,
  { schemas, meaningOf }: TableOptions,
): string {
  if (fields.length === 0) {
    const isEmpty = whole.type === 'object' && whole.properties !== undefined
    return isEmpty ? 'No further fields.' : `${typeText(whole, schemas)}.`
  }
  const hasMeanings =
    meaningOf !== undefined &&
    fields.some(({ name, isRequired }) => meaningOf(name, isRequired) !== undefined)
  return table(
    ['Field', 'Type', ...(hasMeanings ? ['Meaning'] : [])],
    fields.map(({ name, schema, isRequired }) => [
      isRequired ? code(name) : `${code(name)} (optional)`,
      typeText(schema, schemas),
      ...(hasMeanings ? [meaningOf(name, isRequired) ?? schema.description ?? ''] : []),
    ]),
  )
}

/** Returns the fields of an object, of a list of objects, and of objects in it, by their paths. */
function fieldsOf(schema: JsonSchema, prefix = ''): Field[] {
  if (schema.items !== undefined) return fieldsOf(schema.items, prefix === '' ? '[].' : prefix)
  const required = new Set(schema.required)
  return Object.entries(schema.properties ?? {}).flatMap(([key, each]) => {
    const name = `${prefix}${key}`
    const own: Field = { name, schema: each, isRequired: required.has(key) }
    const inner = each.items === undefined ? fieldsOf(each, `${name}.`) : fieldsOf(each, `${name}[].`)
    const variants = variantsOf(each.items ?? each) ?? []
    return [own, ...inner, ...variantFields(variants, `${name}${each.items === undefined ? '' : '[]'}.`)]
  })
}

/** Fields that some of the variants of a field have. */
function variantFields(variants: readonly JsonSchema[], prefix: string): Field[] {
  const fields = variants.flatMap((variant) => fieldsOf(variant, prefix))
  const byName = Map.groupBy(fields, ({ name }) => name)
  return [...byName].map(([name, same]) => ({
    name,
    schema: { oneOf: same.map(({ schema }) => schema) },
    isRequired: same.length === variants.length && same.every(({ isRequired }) => isRequired),
  }))
}

/** Returns the variants of a schema if they are objects. */
function variantsOf(schema: JsonSchema): readonly JsonSchema[] | undefined {
  const variants = schema.oneOf ?? schema.anyOf
  return variants?.every(({ properties }) => properties !== undefined) === true ? variants : undefined
}

/** The first field of a variant that has one value only. */
function labelOf({ properties = {} }: JsonSchema): { name: string; value: string } | undefined {
  const found = Object.entries(properties).find(([, each]) => each.const !== undefined)
  return found === undefined ? undefined : { name: found[0], value: String(found[1].const) }
}
