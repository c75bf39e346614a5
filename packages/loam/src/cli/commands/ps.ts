import type { Command } from 'commander'
import { containerList, containerRows, isUnmounted } from '../container-rows.ts'
import { addListOptions, chooseRows, type ListFlags, writeList } from '../lists.ts'
import { inJson, noteMissing } from '../missing-data.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions, ListFlags {
  readonly latest?: boolean
}

export function addPs(program: Command, host: Host): void {
  const command = addGlobalOptions(program.command('ps'))
  addListOptions(command, containerList([]))
    .option('-a, --all', 'accepted: all containers are always listed')
    .option('-l, --latest', 'show only the container that was created last')
    .description('list containers and their root filesystems')
    .addHelpText(
      'after',
      `
A terminal that is too narrow shows fewer columns; --no-trunc shows all of them in full.
  loam ps -q                                    IDs only
  loam ps --filter ancestor=busybox --sort created
  loam ps --format '{{.ID}} {{.Rootfs}}'        paths of the root filesystems

Words of templates: ${containerList([])
        .fields.map(({ name }) => name)
        .join(', ')}`,
    )
    .action(async (given: Flags) => {
      await withSession(host, given, async ({ loam, output }) => {
        const flags = { ...given, quiet: command.getOptionValueSource('quiet') === 'cli' }
        // In this order: it removes containers whose monitors could not.
        const processes = await loam.containers.processes.list()
        const containers = await loam.containers.list()
        const partialLayers = await loam.store.partialLayers()
        const all = containerRows(containers, processes, partialLayers)
        if (all.some(({ rootfs }) => isUnmounted(rootfs)))
          output.note('some root filesystems are not mounted: loam recover mounts them again')
        const definition = containerList(all)
        const sort = given.latest === true ? 'created:desc' : flags.sort
        const chosen = chooseRows(all, sort === undefined ? flags : { ...flags, sort }, definition)
        const rows = given.latest === true ? chosen.slice(0, 1) : chosen
        const shown = [...new Set(rows.map(({ container }) => container))].map((each) => ({
          ...each,
          process: processes.find(({ id }) => id === each.id),
          ...inJson(rows.filter(({ container }) => container === each)),
        }))
        writeList({ host, output, flags }, rows, shown, definition)
        noteMissing(
          output,
          rows.flatMap(({ partials }) => partials),
        )
      })
    })
}
