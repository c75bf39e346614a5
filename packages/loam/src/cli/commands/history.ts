import type { Command } from 'commander'
import type { HistoryStep } from '../../images/index.ts'
import { formatAge, formatBytes, shortDigest } from '../format.ts'
import type { Host } from '../host.ts'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { type ListDefinition, type ListFlags, writeList, listFormatOption } from '../lists.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions, PullFlags, ListFlags {}

const MISSING = '<missing>'

/** The columns are those of docker and podman; a layer has no ID there, and its digest here. */
const HISTORY: ListDefinition<HistoryStep> = {
  fields: [
    { name: 'ID', heading: 'LAYER', text: ({ layer }, isFull) => idOf(layer?.diffId, isFull) },
    { name: 'CreatedSince', heading: 'CREATED', text: ({ created }) => since(created) },
    { name: 'CreatedAt', heading: 'CREATED AT', text: ({ created = '' }) => created, isHidden: true },
    {
      name: 'CreatedBy',
      heading: 'CREATED BY',
      text: ({ createdBy }, isFull) => shortCommand(createdBy, isFull),
    },
    { name: 'Size', heading: 'SIZE', text: ({ layer }) => formatBytes(layer?.tarBytes ?? 0) },
    {
      name: 'Packed',
      heading: 'PACKED',
      text: ({ layer }) => formatBytes(layer?.blobBytes ?? 0),
      isHidden: true,
    },
    { name: 'Comment', heading: 'COMMENT', text: ({ comment }) => comment, leftOut: 1 },
  ],
  idOf: ({ layer }, isFull) => idOf(layer?.diffId, isFull),
  filters: {},
  sorts: {},
}
const MAX_COMMAND = 60

export function addHistory(program: Command, host: Host): void {
  const command = addGlobalOptions(program.command('history <image>'))
  const quiet = command.options.find(({ long }) => long === '--quiet')
  if (quiet !== undefined) Object.assign(quiet, { short: '-q', description: 'print only the layers' })
  command
    .description('show how an image was made, the latest step first')
    .option('--platform <os/arch[/variant]>', 'platform to show, when the store has the image for several')
    .addOption(imageTypeOption())
    .addOption(listFormatOption("a Go template such as '{{.CreatedBy}}', table TEMPLATE, table or json"))
    .option('--no-trunc', 'shorten nothing')
    .addHelpText(
      'after',
      `
SIZE is that of the unpacked layer; a step without a layer changed only the config.
  loam history debian:12
  loam history --no-trunc --format '{{.Size}} {{.CreatedBy}}' debian:12

Words of templates: ${HISTORY.fields.map(({ name }) => name).join(', ')}
\`loam layers\` shows what each layer adds, replaces and hides.`,
    )
    .action(async (image: string, given: Flags) => {
      await withSession(host, given, async ({ loam, output, signal }) => {
        const flags = { ...given, quiet: command.getOptionValueSource('quiet') === 'cli' }
        const history = await loam.images.history(image, { ...toImageOptions(flags), signal })
        await writeList({ host, output, flags }, history.steps.toReversed(), history, HISTORY)
      })
    })
}

function idOf(diffId: string | undefined, isFull: boolean): string {
  if (diffId === undefined) return MISSING
  return isFull ? diffId : shortDigest(diffId)
}

function since(created: string | undefined): string {
  const atMs = Date.parse(created ?? '')
  return Number.isNaN(atMs) ? 'unknown' : formatAge(atMs)
}

/** A command of a shell without the words that all of them begin with. */
function shortCommand(text: string, isFull: boolean): string {
  if (isFull) return text
  const short = text
    .replace(/^\/bin\/sh -c (?:#\(nop\) *)?/, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
  return short.length > MAX_COMMAND ? `${short.slice(0, MAX_COMMAND - 1)}…` : short
}
