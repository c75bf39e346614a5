import { type Command, Option } from 'commander'
import { formatDeviceMapperTable, formatVmdk } from '../../exports/index.ts'
import type { Host } from '../host.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

const FORMATS = ['vmdk', 'dm', 'json'] as const

interface Flags extends PullFlags, GlobalOptions {
  readonly format: (typeof FORMATS)[number]
}

export function addDisks(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('disks <image-or-container>')))
    .description('describe an image, or the image of a container, as one read-only disk without a copy')
    .addOption(
      new Option('--format <format>', 'vmdk: a virtual disk of flat extents; dm: a table of dm-linear; json')
        .choices([...FORMATS])
        .default('vmdk'),
    )
    .addHelpText(
      'after',
      `
The disk is an EROFS file system made of files of the store: the merged image, and behind it the tars of the layers.
  loam disks debian:12 >debian.vmdk        for qemu: -drive file=debian.vmdk,format=vmdk,if=virtio,readonly=on
  loam disks --format json debian:12       the files, for one drive each, and the mount that joins them
  loam provision --id vm1 debian:12 && loam disks vm1 >vm1.vmdk
                                           container vm1 keeps the files in the store

Linux 6.4 or later mounts the disk. docs/disks.md has Firecracker, Cloud Hypervisor and the device mapper.
\`loam export --format erofs\` writes a disk of its own, for any kernel with EROFS.`,
    )
    .action(async (name: string, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, 'describe the disk')
        const disk = await loam.images.disks(name, {
          ...toImageOptions(flags),
          signal,
          onEvent: progress.onEvent,
        })
        if (output.json || flags.format === 'json') {
          output.document(disk)
          return
        }
        output.endWork()
        output.raw(flags.format === 'dm' ? formatDeviceMapperTable(disk) : formatVmdk(disk))
      })
    })
}
