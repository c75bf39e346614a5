import { type Command, InvalidArgumentError } from 'commander'
import { containerList, containerRows, isUnmounted } from '../container-rows.ts'
import { addListOptions, chooseRows, type ListFlags, writeList } from '../lists.ts'
import { inJson, noteMissing } from '../missing-data.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions, ListFlags {
  readonly latest?: boolean
  readonly last?: number
}

export function addPs(program: Command, host: Host): void {
  const command = addGlobalOptions(program.command('ps'))
  addListOptions(command, containerList([]))
    .option('-a, --all', 'accepted: all containers are always listed')
    .option('-l, --latest', 'show only the container that was created last')
    .option('-n, --last <number>', 'show only so many containers, those that were created last', parseCount)
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
        const last = given.latest === true ? 1 : given.last
        const sort = last === undefined ? flags.sort : 'created:desc'
        const chosen = await chooseRows(all, sort === undefined ? flags : { ...flags, sort }, definition)
        const listed = [...new Set(chosen.map(({ container }) => container))].slice(0, last)
        const rows = chosen.filter(({ container }) => listed.includes(container))
        const shown = listed.map((each) => ({
          ...each,
          process: processes.find(({ id }) => id === each.id),
          ...inJson(rows.filter(({ container }) => container === each)),
        }))
        await writeList({ host, output, flags }, rows, shown, definition)
        noteMissing(
          output,
          rows.flatMap(({ partials }) => partials),
        )
      })
    })
}

function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a number of containers.')
  return Number(text)
}
