import { type Command, Option } from 'commander'
import { LoamError } from '../../errors/index.ts'
import { SAVE_FORMATS } from '../../images/index.ts'
import { isStandardOutput } from '../../linux/index.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { modeOption } from '../output-mode.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly output?: string
  readonly format?: (typeof SAVE_FORMATS)[number]
  readonly force?: boolean
  readonly mode?: number
}

export function addSave(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('save <image...>')))
    .description('write images of the store to one file, for docker, podman, skopeo and `loam load`')
    .addOption(
      completes(new Option('-o, --output <file>', 'file to write (default: standard output)'), 'files'),
    )
    .addOption(
      new Option('--format <format>', 'kind of archive').choices(SAVE_FORMATS).default('docker-archive'),
    )
    .option('--force', 'replace an existing file')
    .addOption(modeOption())
    .addHelpText(
      'after',
      `
A docker-archive also contains an OCI layout. The IDs of images stay. Their digests stay where the blobs of their layers
were retained (blob_retention); \`loam copy IMAGE oci-archive:FILE\` fetches them, and always keeps digests.
  loam save -o app.tar registry.lan/app:1
  loam save debian:12 busybox | ssh other loam load
  loam save --format oci-archive -o app.oci app:1`,
    )
    .action(async (images: readonly string[], flags: Flags) => {
      const { format, force, mode } = flags
      const target = flags.output ?? '-'
      const isToOutput = isStandardOutput(target, host.cwd)
      if (target === '-') host.requireOwnProcess()
      if (isToOutput && host.stdout.isTerminal)
        throw new LoamError('USAGE', 'save: standard output is a terminal', {
          hint: 'Name a file with --output, or redirect standard output.',
        })
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const saved = await loam.images.save(images, target, {
          ...toImageOptions(flags),
          format,
          force,
          mode,
          signal,
          onSave: progress.onEvent,
          onEvent: progress.onEvent,
        })
        progress.summarize('saved')
        for (const { name, digest, storedDigest } of saved)
          if (digest !== storedDigest)
            output.difference(
              `${name ?? storedDigest}: the layers are not compressed in the file, so its digest is ${digest}`,
            )
        if (!isToOutput && output.json) output.document(saved)
      })
    })
}
