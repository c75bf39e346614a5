import type { Command } from 'commander'
import { imageList, imageRows, isNamed } from '../image-rows.ts'
import { addListOptions, chooseRows, type ListFlags, writeList } from '../lists.ts'
import { inJson, noteMissing } from '../missing-data.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions, ListFlags {
  readonly digests?: boolean
}

export function addImages(program: Command, host: Host): void {
  const command = addGlobalOptions(program.command('images [name]'))
  addListOptions(command, imageList([]))
    .option('-a, --all', 'accepted: all images are always listed')
    .option('--digests', 'show digests in full')
    .description('list the images in the store, the latest pulled first')
    .addHelpText(
      'after',
      `
SIZE is that of the unpacked layers; {{.Packed}} has the size in the registry, \`loam df\` the space on the disk.
Images of origin \`local\` have no known source to fetch them from.
  loam images busybox                     those of a repository, also with * and ?
  loam images -q --filter dangling=true   IDs of images without a name
  loam images --sort size:desc --format 'table {{.Repository}}\\t{{.Tag}}\\t{{.Size}}'
  loam images --format '{{json .}}'       one line of JSON for each; --format json is one list of all facts

Words of templates: ${imageList([])
        .fields.map(({ name }) => name)
        .join(', ')}
Keys of --filter: reference, dangling, platform, origin (local, registry), before, since, digest`,
    )
    .action(async (name: string | undefined, given: Flags) => {
      await withSession(host, given, async ({ loam, output }) => {
        const flags = { ...given, quiet: command.getOptionValueSource('quiet') === 'cli' }
        const all = imageRows(await loam.images.list(), await loam.store.partialLayers())
        const definition = imageList(all)
        const named = name === undefined ? all : all.filter((row) => isNamed(row, name))
        const rows = await chooseRows(named, flags, definition)
        const images = [...new Set(rows.map(({ image }) => image))]
        const shown =
          given.digests === true
            ? {
                ...definition,
                fields: definition.fields.map((field) =>
                  field.name === 'ID'
                    ? {
                        ...field,
                        heading: 'DIGEST',
                        text: ({ image }: (typeof rows)[number]) => image.digest,
                      }
                    : field,
                ),
              }
            : definition
        const values = images.map((each) => ({
          ...each,
          ...inJson(rows.filter(({ image }) => image === each)),
        }))
        await writeList({ host, output, flags }, rows, values, shown)
        noteMissing(
          output,
          rows.flatMap(({ partials }) => partials),
        )
        for (const { damage } of images) if (damage !== undefined) output.difference(`damaged: ${damage}`)
      })
    })
}
