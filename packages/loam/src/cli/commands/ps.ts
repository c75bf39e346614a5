import type { Command } from 'commander'
import type { RootfsInfo } from '../../provisioner/index.ts'
import { formatAge, formatTable, shortDigest } from '../format.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addPs(program: Command, host: Host): void {
  addGlobalOptions(program.command('ps'))
    .description('list containers and their root filesystems')
    .action(async (flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const containers = await loam.containers.list()
        if (
          containers.some(({ rootfses }) =>
            rootfses.some(({ state, isStanding }) => state === 'ready' && !isStanding),
          )
        )
          output.note('some root filesystems are not mounted: loam recover mounts them again')
        output.result(containers, () =>
          formatTable(
            ['CONTAINER', 'IMAGE', 'DIGEST', 'BACKEND', 'STATE', 'CREATED', 'ROOTFS'],
            containers.flatMap(({ id, createdAtMs, rootfses }) =>
              rootfses.length === 0
                ? [[id, '-', '-', '-', '-', formatAge(createdAtMs), '-']]
                : rootfses.map((rootfs) => describe(id, rootfs)),
            ),
          ),
        )
      })
    })
}

function describe(id: string, rootfs: RootfsInfo): string[] {
  return [
    id,
    rootfs.reference,
    shortDigest(rootfs.imageDigest),
    `${rootfs.backend}${rootfs.isReadOnly ? ' (ro)' : ''}`,
    rootfs.state === 'ready' && !rootfs.isStanding ? 'not mounted' : rootfs.state,
    formatAge(rootfs.createdAtMs),
    rootfs.rootfsPath,
  ]
}
