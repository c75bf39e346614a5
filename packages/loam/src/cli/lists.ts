import { type Command, Option } from 'commander'
import { isLoamError, LoamError, visible } from '../errors/index.ts'
import { TimeSlice } from '../linux/index.ts'
import { formatTable } from './format.ts'
import { fitTable } from './fit-table.ts'
import type { Host } from './host.ts'
import { repeated } from './image-options.ts'
import type { Output } from './output.ts'
import { OTHER_FILTERS } from './other-options.ts'
import { sortedInSlices } from './sorted-in-slices.ts'
import { createTemplate, withKnownFields } from './template/index.ts'
import { completes } from './completion/values.ts'

/** The options of every command that lists something. */
export interface ListFlags {
  readonly quiet?: boolean
  readonly format?: string
  readonly filter?: readonly string[]
  readonly sort?: string
  readonly trunc?: boolean
  readonly heading?: boolean
}

/** One field of the rows of a list: a column of its table, and a word of its templates. */
export interface ListField<Row> {
  /** Name in a template, as in docker and podman. */
  readonly name: string
  /** Heading of its column. */
  readonly heading: string
  /** Its text. `isFull`: nothing is shortened. */
  readonly text: (row: Row, isFull: boolean) => string
  /** Order in which columns are left out on a narrow terminal, from 1 on. Undefined: the column stays. */
  readonly leftOut?: number
  /** Whether it is no column unless a template names it. */
  readonly isHidden?: boolean
}

/** What a value is sorted by. */
type SortKey<Row> = (row: Row) => string | number

/** Reads a value once, before the first row: returns which rows have it. @throws USAGE for one that no row can have, and as a search for what it names */
export type Filter<Row> = (value: string) => (row: Row) => boolean

/** Returns a filter that has only some values. */
export function filterOf<Row>(
  key: string,
  known: readonly string[],
  valueOf: (row: Row) => string | undefined,
): Filter<Row> {
  return (value) => {
    if (known.includes(value)) return (row) => valueOf(row) === value
    // An empty list would say that there is nothing of what was meant.
    throw new LoamError('USAGE', `read --filter ${key}: there is no ${key} ${value}`, {
      hint: `There are ${known.join(', ')}.`,
    })
  }
}

/** What can be listed, and how. */
export interface ListDefinition<Row> {
  readonly fields: readonly ListField<Row>[]
  /** The text of `--quiet`, by which other commands find the object. */
  readonly idOf: (row: Row, isFull: boolean) => string
  /** Filters by key. */
  readonly filters: Readonly<Record<string, Filter<Row>>>
  /** Sort keys. One that begins with a minus sign sorts the largest first. */
  readonly sorts: Readonly<Record<string, SortKey<Row>>>
}

/** Returns the option for the format of a list. */
export function listFormatOption(help: string): Option {
  return completes(new Option('--format <template>', help), ['table', 'json'])
}

/** Adds the options of lists to a command. */
export function addListOptions<Row>(command: Command, definition: ListDefinition<Row>): Command {
  const quiet = command.options.find(({ long }) => long === '--quiet')
  if (quiet !== undefined) Object.assign(quiet, { short: '-q', description: 'print only the IDs' })
  const filters = Object.keys(definition.filters)
  const sorts = Object.keys(definition.sorts).map((key) => key.replace(/^-/, ''))
  return command
    .addOption(listFormatOption("a Go template such as '{{.ID}}', table TEMPLATE, table or json"))
    .addOption(
      completes(
        repeated('-f, --filter <key=value>', `show only some: ${filters.join(', ')}`),
        filters.map((key) => `${key}=`),
      ),
    )
    .addOption(
      completes(new Option('--sort <key[:asc|desc]>', `order: ${sorts.join(', ')}`), (typed) => {
        const kept = typed.slice(0, typed.indexOf(':') + 1)
        return { kept, words: kept === '' ? sorts : ['asc', 'desc'] }
      }),
    )
    .option('--no-trunc', 'shorten nothing')
    .addOption(new Option('--no-heading', 'leave out the heading of the table'))
}

/**
 * Chooses the rows that the filters allow, in the order that is asked for. Other work runs meanwhile: rows may be many, and come from outside.
 * @throws USAGE for unknown filters, values and keys
 */
export async function chooseRows<Row>(
  rows: readonly Row[],
  { filter = [], sort }: ListFlags,
  definition: ListDefinition<Row>,
): Promise<Row[]> {
  const wanted = Map.groupBy(filter.map(parseFilter), ({ key }) => key)
  const filters = [...wanted].map(([key, values]) => {
    const filterBy = Object.hasOwn(definition.filters, key) ? definition.filters[key] : undefined
    if (filterBy === undefined) throw unknownKey('--filter', key, definition.filters)
    return values.map(({ value }) => filterBy(value))
  })
  // As in docker: several values of one key are alternatives, several keys are all required.
  const chosen: Row[] = []
  const slice = new TimeSlice()
  for (const row of rows) {
    if (filters.every((alternatives) => alternatives.some((has) => has(row)))) chosen.push(row)
    await slice.rest()
  }
  return sort === undefined ? chosen : sorted(chosen, sort, definition.sorts)
}

function parseFilter(text: string): { readonly key: string; readonly value: string } {
  const [, key, value] = /^([^=]+?)=(.*)$/s.exec(text) ?? []
  if (key !== undefined && value !== undefined) return { key, value }
  throw new LoamError('USAGE', `read --filter ${text}: it has no =`, { hint: 'Write --filter KEY=VALUE.' })
}

function unknownKey(option: string, key: string, known: Readonly<Record<string, unknown>>): LoamError {
  const names = Object.keys(known).map((name) => name.replace(/^-/, ''))
  const other = Object.hasOwn(OTHER_FILTERS, key) ? `${OTHER_FILTERS[key]} ` : ''
  return new LoamError('USAGE', `read ${option}: there is no key ${key}`, {
    hint: `${other}There are ${names.join(', ')}.`,
  })
}

async function sorted<Row>(
  rows: readonly Row[],
  sort: string,
  sorts: ListDefinition<Row>['sorts'],
): Promise<Row[]> {
  const [, key = sort, order] = /^(.*):(asc|desc)$/.exec(sort) ?? []
  const isDescending = Object.hasOwn(sorts, `-${key}`)
  const keyOf = isDescending ? sorts[`-${key}`] : Object.hasOwn(sorts, key) ? sorts[key] : undefined
  if (keyOf === undefined) throw unknownKey('--sort', key, sorts)
  const sign = (order === undefined ? isDescending : order === 'desc') ? -1 : 1
  const slice = new TimeSlice()
  const keyed: { readonly row: Row; readonly key: string | number }[] = []
  for (const row of rows) {
    keyed.push({ row, key: keyOf(row) })
    await slice.rest()
  }
  const compare = (a: string | number, b: string | number) => (a === b ? 0 : a < b ? -sign : sign)
  return (await sortedInSlices(keyed, (a, b) => compare(a.key, b.key), slice)).map(({ row }) => row)
}

/** Where and how a list is written. */
export interface ListTarget {
  readonly host: Pick<Host, 'stdout'>
  readonly output: Output
  readonly flags: ListFlags
}

/** Returns whether the result is wanted as JSON. */
export function isJsonList({ output, flags }: ListTarget): boolean {
  return output.json || flags.format === 'json'
}

/**
 * Writes rows as IDs, by a template, or as a table that fits the terminal. `value` is the result as JSON. Other work runs between rows of a template.
 * @throws USAGE for an invalid template
 */
export async function writeList<Row>(
  target: ListTarget,
  rows: readonly Row[],
  value: unknown,
  definition: ListDefinition<Row>,
): Promise<void> {
  const { output, flags } = target
  const { format, quiet = false, trunc = true } = flags
  if (isJsonList(target)) {
    output.document(value)
  } else if (quiet && format === undefined) {
    output.formatted([...new Set(rows.map((row) => visible(definition.idOf(row, !trunc))))])
  } else if (format === undefined || format === 'table') {
    writeTable(target, rows, definition)
  } else {
    await writeByTemplate(target, format, rows, definition)
  }
}

function writeTable<Row>(
  { host, output, flags: { trunc = true, heading = true } }: ListTarget,
  rows: readonly Row[],
  { fields }: ListDefinition<Row>,
): void {
  const columns = fields.filter(({ isHidden }) => isHidden !== true)
  const cells = rows.map((row) => columns.map(({ text }) => text(row, !trunc)))
  const table = { headings: columns.map((column) => column.heading), rows: cells }
  const width = trunc ? host.stdout.columns : undefined
  const fitted =
    width === undefined
      ? table
      : fitTable(
          table,
          columns.map(({ leftOut }) => leftOut),
          width,
        )
  const lines = formatTable(fitted.headings, fitted.rows)
  output.formatted(heading ? lines : lines.slice(1))
}

async function writeByTemplate<Row>(
  { output, flags: { trunc = true, heading = true } }: ListTarget,
  format: string,
  rows: readonly Row[],
  { fields }: ListDefinition<Row>,
): Promise<void> {
  const isTable = /^table\s/.test(format)
  const body = format.replace(/^table\s+/, '').replaceAll(String.raw`\t`, '\t')
  const template = createTemplate(body.replaceAll(String.raw`\n`, '\n'))
  const viewOf = (textOf: (field: ListField<Row>) => string) =>
    withKnownFields(Object.fromEntries(fields.map((field) => [field.name, textOf(field)])))
  const lines: string[] = []
  const slice = new TimeSlice()
  for (const row of rows) {
    lines.push(template(viewOf(({ text }) => visible(text(row, !trunc)))))
    await slice.rest()
  }
  if (!isTable) {
    // An unknown field is an error also where there are no rows.
    if (rows.length === 0) tried(() => template(viewOf(() => '')))
    output.formatted(lines)
    return
  }
  const heads =
    tried(() => template(viewOf((field) => field.heading)).split('\t')) ??
    body.split('\t').map((cell) => headingOf(cell, fields))
  const table = formatTable(
    heads,
    lines.map((line) => line.split('\t')),
  )
  output.formatted(heading ? table : table.slice(1))
}

/** Functions may refuse what is not a value of a row. @throws for an unknown field or function */
function tried<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch (error) {
    if (!isLoamError(error, 'USAGE') || 'field' in error.details || 'function' in error.details) throw error
    return undefined
  }
}

function headingOf<Row>(cell: string, fields: readonly ListField<Row>[]): string {
  const named = fields.filter(({ name }) => new RegExp(`\\.${name}\\b`).test(cell))
  return named.map(({ heading }) => heading).join(' ')
}
