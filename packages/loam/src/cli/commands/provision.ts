import type { Command } from 'commander'
import type { MesosContainer } from '../../containers/index.ts'
import {
  addLazyOptions,
  addPullOptions,
  type LazyFlags,
  type PullFlags,
  toImageOptions,
  toLazyOptions,
} from '../image-options.ts'
import { containerInfoOption, readContainerInfo, requireImage } from '../container-info.ts'
import { PullProgress } from '../progress.ts'
import { parseSize, SIZE_HELP } from '../size.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import {
  addUserNamespaceOptions,
  toUserNamespace,
  type UserNamespaceFlags,
} from '../user-namespace-options.ts'
import type { Host } from '../host.ts'
import { LoamError } from '../../errors/index.ts'
import { describeVolume } from './volume.ts'
import { backendOption } from '../run-options.ts'

interface Flags extends PullFlags, LazyFlags, GlobalOptions, UserNamespaceFlags {
  readonly id?: string
  readonly backend?: string
  readonly readOnly?: boolean
  readonly size?: number
  readonly pull?: boolean
  readonly containerInfo?: string
}

export function addProvision(program: Command, host: Host): void {
  addLazyOptions(
    addUserNamespaceOptions(addPullOptions(addGlobalOptions(program.command('provision [image]')))),
  )
    .description('create a root filesystem from an image, pulling it if needed, and print its path')
    .option('--id <id>', 'container ID; PARENT/CHILD for a nested container (default: generated)')
    .addOption(backendOption())
    .option('--read-only', 'make the root filesystem read-only')
    .option('--size <size>', SIZE_HELP, parseSize)
    .option('--pull', 'resolve the name at its source, even if the image is in the store')
    .addOption(containerInfoOption())
    .addHelpText(
      'after',
      `
  rootfs=$(loam provision --id web debian:12)
  loam provision --backend copy --read-only oci:./layout:tag
  loam provision appc://example.com/app:1.0
  loam provision --id job --container-info container.json
  loam destroy web`,
    )
    .action(async (image: string | undefined, flags: Flags) => {
      const container = readContainerInfo(flags.containerInfo, host.cwd)
      if (container !== undefined && image !== undefined)
        throw new LoamError('USAGE', `provision ${image}: --container-info also names an image`)
      const asked = container ?? toContainer(requireImage(image))
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, 'create the root filesystem')
        const { rootfs, volumes, hostMounts } = await loam.containers.provisionContainer(asked, {
          ...toImageOptions(flags),
          ...toLazyOptions(flags),
          id: flags.id,
          backend: flags.backend,
          isReadOnly: flags.readOnly,
          sizeBytes: flags.size,
          refresh: flags.pull,
          userNamespace: toUserNamespace(flags),
          signal,
          onEvent: progress.onEvent,
        })
        const { manifest, config, ...rest } = rootfs.image
        const documents = {
          manifest: JSON.parse(manifest) as unknown,
          config: JSON.parse(config) as unknown,
        }
        output.path(
          {
            containerId: rootfs.containerId,
            uuid: rootfs.uuid,
            rootfs: rootfs.rootfsPath,
            backend: rootfs.backend,
            readOnly: rootfs.isReadOnly,
            ephemeralVolumes: rootfs.ephemeralVolumes,
            image: { ...rest, ...documents },
            ...(container === undefined ? {} : { volumes: volumes.map(describeVolume), hostMounts }),
          },
          rootfs.rootfsPath,
        )
      })
    })
}

function toContainer(image: string): MesosContainer {
  return { image, volumes: [], hostMounts: [], hostname: undefined }
}
