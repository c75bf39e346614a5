import type { Command } from 'commander'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly id?: string
  readonly backend?: string
  readonly readOnly?: boolean
  readonly pull?: boolean
}

export function addProvision(program: Command): void {
  addPullOptions(addGlobalOptions(program.command('provision <image>')))
    .description('make a root filesystem of an image, pulled if needed, and print its path')
    .option('--id <id>', 'container to make it for; PARENT/CHILD for a nested one (default: a new one)')
    .option('--backend <name>', 'erofs, overlay, copy or bind (default: the best that works here)')
    .option('--read-only', 'nobody may write to it')
    .option('--pull', 'ask the registry what the name stands for now')
    .addHelpText(
      'after',
      `
  rootfs=$(loam provision --id web debian:12)
  loam provision --backend copy --read-only oci:./layout:tag
  loam provision appc://example.com/app:1.0
  loam destroy web`,
    )
    .action(async (image: string, flags: Flags) => {
      await withSession(flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const rootfs = await loam.provision(image, {
          ...toImageOptions(flags),
          id: flags.id,
          backend: flags.backend,
          isReadOnly: flags.readOnly,
          refresh: flags.pull,
          signal,
          onEvent: progress.onEvent,
        })
        const { manifest, config, ...rest } = rootfs.image
        const documents = {
          manifest: JSON.parse(manifest) as unknown,
          config: JSON.parse(config) as unknown,
        }
        output.result(
          {
            containerId: rootfs.containerId,
            uuid: rootfs.uuid,
            rootfs: rootfs.rootfsPath,
            backend: rootfs.backend,
            readOnly: rootfs.isReadOnly,
            ephemeralVolumes: rootfs.ephemeralVolumes,
            image: { ...rest, ...documents },
          },
          () => rootfs.rootfsPath,
        )
      })
    })
}
