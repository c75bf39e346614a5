import type { Command } from 'commander'
import { formatBytes, formatTable, shortDigest } from '../format.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions {
  readonly layers?: boolean
}

export function addDf(program: Command, host: Host): void {
  addGlobalOptions(program.command('df'))
    .description('show the disk space that images and containers use and share')
    .option('--layers', 'also list each layer')
    .action(async (flags: Flags) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const usage = await loam.store.usage()
        output.result(usage, () => {
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
            usage.containers.map(({ id, reference, backend, bytes }) => [
              id,
              reference,
              backend,
              formatBytes(bytes),
            ]),
          )
          const unused =
            usage.unusedBytes === 0 ? '' : `, ${formatBytes(usage.unusedBytes)} of it unused: loam prune`
          const retained =
            usage.retainedBytes === 0 ? '' : `, ${formatBytes(usage.retainedBytes)} of it retained blobs`
          return [
            ...images,
            '',
            ...(flags.layers === true ? [...layers, ''] : []),
            ...containers,
            '',
            `total ${formatBytes(usage.totalBytes)}${unused}${retained}`,
          ]
        })
      })
    })
}
