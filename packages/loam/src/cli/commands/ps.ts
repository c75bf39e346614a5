import type { Command } from 'commander'
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
            containers.flatMap(({ id, rootfses }) =>
              rootfses.map((rootfs) => [
                id,
                rootfs.reference,
                shortDigest(rootfs.imageDigest),
                `${rootfs.backend}${rootfs.isReadOnly ? ' (ro)' : ''}`,
                rootfs.state,
                formatAge(rootfs.createdAtMs),
                rootfs.rootfsPath,
              ]),
            ),
          ),
        )
      })
    })
}
