import type { Command } from 'commander'
import type { StoreUsage } from '../../maintenance/index.ts'
import { formatBytes, formatTable, shortDigest } from '../format.ts'
import type { Host } from '../host.ts'
import { isJsonList, type ListDefinition, writeList, listFormatOption } from '../lists.ts'
import { noteMissing } from '../missing-data.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions {
  readonly layers?: boolean
  readonly format?: string
}

/** A line of the summary: what all objects of one kind take. */
interface UsageRow {
  readonly type: string
  readonly count: number
  readonly active: number
  readonly bytes: number
  /** Bytes that `loam prune` frees. */
  readonly reclaimable: number
}

/** The words are those of `docker system df` and `podman system df`. */
const SUMMARY: ListDefinition<UsageRow> = {
  fields: [
    { name: 'Type', heading: 'TYPE', text: ({ type }) => type },
    { name: 'TotalCount', heading: 'TOTAL', text: ({ count }) => String(count) },
    { name: 'Total', heading: 'TOTAL', text: ({ count }) => String(count), isHidden: true },
    { name: 'Active', heading: 'ACTIVE', text: ({ active }) => String(active) },
    { name: 'Size', heading: 'SIZE', text: ({ bytes }) => formatBytes(bytes) },
    { name: 'Reclaimable', heading: 'RECLAIMABLE', text: ({ reclaimable }) => formatBytes(reclaimable) },
  ],
  idOf: ({ type }) => type,
  filters: {},
  sorts: {},
}

export function addDf(program: Command, host: Host): void {
  addGlobalOptions(program.command('df'))
    .description('show the disk space that images and containers use and share')
    .option('--layers', 'also list each layer')
    .addOption(
      listFormatOption(
        "a Go template such as '{{.Type}} {{.Size}}', table TEMPLATE, table or json, for a line for each kind",
      ),
    )
    .addHelpText(
      'after',
      `
  loam df --layers
  loam df --format table
  loam df --format '{{.Type}}: {{.Size}}, {{.Reclaimable}} to free'

Words of templates: ${SUMMARY.fields.map(({ name }) => name).join(', ')}`,
    )
    .action(async (flags: Flags) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const usage = await loam.store.usage()
        noteMissing(output, await loam.store.partialLayers())
        const { format } = flags
        const target = { host, output, flags: format === undefined ? {} : { format } }
        if (isJsonList(target) || format !== undefined)
          await writeList(target, summarize(usage), usage, SUMMARY)
        else output.result(usage, () => tables(usage, flags))
      })
    })
}

function summarize({ images, layers, containers, unusedBytes, retainedBytes }: StoreUsage): UsageRow[] {
  const sum = (bytes: readonly number[]) => bytes.reduce((total, each) => total + each, 0)
  const inUse = layers.filter((layer) => layer.images.length > 0)
  const plain = { active: 0, reclaimable: 0 }
  return [
    {
      type: 'Images',
      count: images.length,
      active: images.filter((image) => image.containers.length > 0).length,
      bytes: sum(layers.map(({ bytes, folderBytes }) => bytes + folderBytes)),
      reclaimable: unusedBytes,
    },
    {
      ...plain,
      type: 'Layers',
      count: layers.length,
      active: inUse.length,
      bytes: sum(layers.map(({ bytes }) => bytes)),
    },
    {
      ...plain,
      type: 'Containers',
      count: new Set(containers.map(({ id }) => id)).size,
      active: new Set(containers.map(({ id }) => id)).size,
      bytes: sum(containers.map(({ bytes }) => bytes)),
    },
    { ...plain, type: 'Retained blobs', count: 0, bytes: retainedBytes },
  ]
}

function tables(usage: StoreUsage, { layers: hasLayers }: Flags): string[] {
  const images = formatTable(
    ['IMAGE', 'ON DISK', 'OWN', 'SHARED', 'CONTAINERS'],
    usage.images.map(({ digest, names, bytes, ownBytes, sharedBytes, containers }) => [
      names[0] ?? shortDigest(digest),
      formatBytes(bytes),
      formatBytes(ownBytes),
      formatBytes(sharedBytes),
      String(containers.length),
    ]),
  )
  const layers = formatTable(
    ['LAYER', 'ON DISK', 'FOLDERS', 'IMAGES'],
    usage.layers.map(({ diffId, bytes, partialOfBytes, folderBytes, images: users }) => [
      shortDigest(diffId),
      partialOfBytes === undefined
        ? formatBytes(bytes)
        : `${formatBytes(bytes)} of ${formatBytes(partialOfBytes)}`,
      formatBytes(folderBytes),
      users.join(', ') || '<none>',
    ]),
  )
  const containers = formatTable(
    ['CONTAINER', 'IMAGE', 'BACKEND', 'ON DISK'],
    usage.containers.map(({ id, reference, backend, bytes }) => [id, reference, backend, formatBytes(bytes)]),
  )
  const unused = usage.unusedBytes === 0 ? '' : `, ${formatBytes(usage.unusedBytes)} of it unused: loam prune`
  const retained =
    usage.retainedBytes === 0 ? '' : `, ${formatBytes(usage.retainedBytes)} of it retained blobs`
  return [
    ...images,
    '',
    ...(hasLayers === true ? [...layers, ''] : []),
    ...containers,
    '',
    `total ${formatBytes(usage.totalBytes)}${unused}${retained}`,
  ]
}
