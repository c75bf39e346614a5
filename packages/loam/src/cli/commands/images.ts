import type { Command } from 'commander'
import { formatAge, formatBytes, formatTable, shortDigest } from '../format.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addImages(program: Command, host: Host): void {
  addGlobalOptions(program.command('images'))
    .description(
      'list the images in the store; images of origin `local` have no known source to fetch them from',
    )
    .action(async (flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const images = await loam.images.list()
        output.result(images, () =>
          formatTable(
            ['IMAGE', 'DIGEST', 'PLATFORM', 'LAYERS', 'SIZE', 'PULLED', 'ORIGIN'],
            images.flatMap((image) =>
              (image.names.length === 0 ? ['<none>'] : image.names).map((name) => [
                name,
                shortDigest(image.digest),
                image.platform,
                String(image.layers.length),
                formatBytes(image.sizeBytes),
                image.damage === undefined ? formatAge(image.pulledAtMs) : 'damaged',
                image.isLocal ? 'local' : 'registry',
              ]),
            ),
          ),
        )
        for (const { damage } of images) if (damage !== undefined) output.note(`damaged: ${damage}`)
      })
    })
}
