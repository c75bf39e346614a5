import { type Command, Option } from 'commander'
import { extname } from 'node:path'
import { LoamError } from '../../errors/index.ts'
import { EXPORT_FORMATS, type ExportFormat } from '../../exports/index.ts'
import { isStandardOutput } from '../../linux/index.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { modeOption } from '../output-mode.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { parseSize } from '../size.ts'
import { sourceDateMs } from '../source-date.ts'
import type { Host } from '../host.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly format?: ExportFormat
  readonly size?: number
  readonly force?: boolean
  readonly mode?: number
}

/** The formats that the ending of an output's name says. */
const ENDINGS: Readonly<Record<string, ExportFormat>> = { '.erofs': 'erofs', '.ext4': 'ext4', '.tar': 'tar' }

/** Returns the format that the name of an output says. @throws USAGE */
function formatOf(output: string): ExportFormat {
  const format = output.startsWith('oci:') ? 'oci' : ENDINGS[extname(output)]
  if (format !== undefined) return format
  throw new LoamError('USAGE', `export to ${output}: its name does not say the format`, {
    hint: `Name one by --format: ${EXPORT_FORMATS.join(', ')}.`,
  })
}

export function addExport(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('export <image-or-container> <output>')))
    .description('write an image, or the current root filesystem of a container, to a file')
    .addOption(
      new Option('--format <format>', "what to write (default: by the output's ending)").choices([
        ...EXPORT_FORMATS,
      ]),
    )
    .option(
      '--size <size>',
      'size of an ext4 file system, for example 2G (default: its contents plus some free space)',
      parseSize,
    )
    .option('--force', 'overwrite an existing export or a block device')
    .addOption(modeOption())
    .addHelpText(
      'after',
      `
  loam export --format erofs debian:12 disk.img       a disk that a virtual machine boots from
  loam export --format ext4 --size 4G debian:12 disk.img
  loam export debian:12 disk.ext4                     the same format by its ending: .ext4, .erofs, .tar
  loam export --format tar web - | tar -t             the files of container web
  loam export --format oci debian:12 layout           for skopeo, podman, umoci
  loam export --format containers-storage debian:12 /srv/images
                                                      for podman, buildah and CRI-O, as additionalimagestores;
                                                      \`loam unexport /srv/images\` removes it
  loam export --format containerd-cache debian:12 /srv/layers
                                                      for containerd 2.4, as layer_content_caches

With SOURCE_DATE_EPOCH no file has a later time, so that the same files make the same bytes (not as ext4, which has a
random UUID). Layers that are copied as they are keep their times.`,
    )
    .action(async (name: string, output: string, flags: Flags) => {
      const format = flags.format ?? formatOf(output)
      const toStandardOutput = isStandardOutput(output, host.cwd)
      await withSession(host, flags, async ({ loam, output: terminal, signal }) => {
        const progress = new PullProgress(terminal, `write ${output}`)
        await loam.export(name, {
          ...toImageOptions(flags),
          format,
          output,
          sizeBytes: flags.size,
          force: flags.force,
          mode: flags.mode,
          latestMs: sourceDateMs(host),
          signal,
          onEvent: progress.onEvent,
        })
        progress.summarize('wrote')
        if (!toStandardOutput) terminal.result({ output, format, notes: progress.notes }, () => output)
      })
    })
}
