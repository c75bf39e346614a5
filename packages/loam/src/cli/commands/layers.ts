import { type Command, InvalidArgumentError } from 'commander'
import type { ImageLayer, ImageLayers } from '../../images/index.ts'
import type { PartialLayerInfo } from '../../lazy/index.ts'
import { formatBytes, shortDigest } from '../format.ts'
import type { Host } from '../host.ts'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { type ListDefinition, type ListFlags, writeList, listFormatOption } from '../lists.ts'
import { dataField, noteMissing } from '../missing-data.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions, PullFlags, ListFlags {
  readonly largest?: number
}

const DEFAULT_LARGEST = 5

type Row = ImageLayer & { readonly partials: readonly PartialLayerInfo[] }

const LAYERS: ListDefinition<Row> = {
  fields: [
    { name: 'Number', heading: '#', text: ({ index }) => String(index) },
    { name: 'ID', heading: 'LAYER', text: ({ diffId }, isFull) => (isFull ? diffId : shortDigest(diffId)) },
    { name: 'Size', heading: 'SIZE', text: ({ bytes }) => formatBytes(bytes) },
    { name: 'Packed', heading: 'PACKED', text: ({ blobBytes }) => formatBytes(blobBytes), leftOut: 2 },
    { name: 'Added', heading: 'ADDED', text: ({ addedFiles }) => String(addedFiles) },
    { name: 'Replaced', heading: 'REPLACED', text: ({ replacedFiles }) => String(replacedFiles) },
    { name: 'Removed', heading: 'REMOVED', text: ({ removedFiles }) => String(removedFiles) },
    { name: 'Hides', heading: 'HIDES', text: ({ hidesBytes }) => formatBytes(hidesBytes), leftOut: 3 },
    { name: 'Wasted', heading: 'WASTED', text: ({ hiddenBytes }) => formatBytes(hiddenBytes) },
    { name: 'CreatedBy', heading: 'CREATED BY', text: ({ createdBy }) => createdBy, leftOut: 1 },
    { name: 'Digest', heading: 'DIGEST', text: ({ blobDigest }) => blobDigest, isHidden: true },
    { name: 'Files', heading: 'FILES', text: ({ files }) => String(files), isHidden: true },
  ],
  idOf: ({ diffId }, isFull) => (isFull ? diffId : shortDigest(diffId)),
  filters: {},
  sorts: {},
}

export function addLayers(program: Command, host: Host): void {
  const command = addGlobalOptions(program.command('layers <image>'))
  const quiet = command.options.find(({ long }) => long === '--quiet')
  if (quiet !== undefined) Object.assign(quiet, { short: '-q', description: 'print only the layers' })
  command
    .description('show what each layer of an image adds, replaces, removes and hides, and its largest files')
    .option('--platform <os/arch[/variant]>', 'platform to show, when the store has the image for several')
    .addOption(imageTypeOption())
    .option('--largest <number>', 'how many of the largest files to list (default: 5)', parseCount)
    .addOption(listFormatOption("a Go template such as '{{.Wasted}}', table TEMPLATE, table or json"))
    .option('--no-trunc', 'shorten nothing')
    .addHelpText(
      'after',
      `
SIZE is the data of the layer's files. ADDED, REPLACED and REMOVED count files by what the layers below have; HIDES is
the data of those that the layer replaces or removes. WASTED is data of the layer that later layers hide: it is
downloaded and stored, and no container sees it.
  loam layers debian:12
  loam layers --largest 20 registry.lan/app:1
  loam layers --format '{{.Number}} {{.Wasted}}' debian:12
  loam du --layer 2 debian:12 /usr      what is in one layer

Words of templates: ${[...LAYERS.fields.map(({ name }) => name), 'Data'].join(', ')}`,
    )
    .action(async (image: string, given: Flags) => {
      await withSession(host, given, async ({ loam, output, signal }) => {
        const flags = { ...given, quiet: command.getOptionValueSource('quiet') === 'cli' }
        const largest = given.largest ?? DEFAULT_LARGEST
        const report = await loam.images.layers(image, { ...toImageOptions(flags), largest, signal })
        const partialLayers = await loam.store.partialLayers()
        const rows = report.layers.map((layer) => ({
          ...layer,
          partials: partialLayers.filter(({ diffId }) => diffId === layer.diffId),
        }))
        const definition = { ...LAYERS, fields: [...LAYERS.fields, dataField(rows)] }
        await writeList({ host, output, flags }, rows, report, definition)
        noteMissing(
          output,
          rows.flatMap(({ partials }) => partials),
        )
        const isTable = flags.format === undefined && !output.json && !flags.quiet
        if (isTable) output.result(report, () => summarize(report, largest))
      })
    })
}

function parseCount(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('Give a number of files, for example 20.')
  return Number(text)
}

function summarize({ layers, bytes, files, hiddenBytes }: ImageLayers, largest: number): string[] {
  const packed = layers.reduce((sum, { blobBytes }) => sum + blobBytes, 0)
  const all = layers.flatMap((layer) => layer.largest.map((file) => ({ ...file, index: layer.index })))
  const biggest = all.toSorted((a, b) => b.bytes - a.bytes)
  const share = hiddenBytes === 0 ? '' : ` (${((100 * hiddenBytes) / (bytes + hiddenBytes)).toFixed(1)} %)`
  const list = (title: string, chosen: typeof all) =>
    chosen.length === 0
      ? []
      : [
          title,
          ...chosen
            .slice(0, largest)
            .map((file) => `  ${formatBytes(file.bytes).padStart(8)}  layer ${file.index}  ${file.path}`),
        ]
  return [
    '',
    `${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}, ${formatBytes(packed)} packed; containers see ${files} files, ${formatBytes(bytes)}; wasted ${formatBytes(hiddenBytes)}${share}`,
    ...list(
      'Largest files:',
      biggest.filter(({ isHidden }) => !isHidden),
    ),
    ...list(
      'Largest wasted files:',
      biggest.filter(({ isHidden, bytes: size }) => isHidden && size > 0),
    ),
  ]
}
