import type { Command } from 'commander'
import type { RootfsRecord } from '../../metadata/index.ts'
import { formatAge, formatTable, shortDigest } from '../format.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

export function addPs(program: Command): void {
  addGlobalOptions(program.command('ps'))
    .description('list containers and their root filesystems')
    .action(async (flags: GlobalOptions) => {
      await withSession(flags, async ({ loam, output }) => {
        const containers = loam.containers()
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

function describe(id: string, rootfs: RootfsRecord): string[] {
  return [
    id,
    rootfs.reference,
    shortDigest(rootfs.imageDigest),
    `${rootfs.backend}${rootfs.isReadOnly ? ' (ro)' : ''}`,
    rootfs.state,
    formatAge(rootfs.createdAtMs),
    rootfs.rootfsPath,
  ]
}
