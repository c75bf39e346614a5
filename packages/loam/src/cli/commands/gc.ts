import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { toLoamError } from '../../errors/index.ts'
import { MAX_TIMER_MS } from '../../linux/index.ts'
import { formatBytes } from '../format.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions {
  readonly dryRun?: boolean
  readonly watch?: boolean
}

export function addGc(program: Command, host: Host): void {
  addGlobalOptions(program.command('gc'))
    .description(
      'evict the least recently used images and data of layers, as configured by image_gc_config and disk_budget',
    )
    .option('--dry-run', 'report what would be removed, without removing it')
    .option('--watch', 'keep running and check at each interval')
    .addHelpText(
      'after',
      `
image_gc_config is JSON, or the path of a file of it:
  {"image_disk_headroom": 0.1, "image_disk_watch_interval": {"nanoseconds": 3600000000000},
   "excluded_images": ["debian:12"], "low_watermark": 0.8,
   "stores": {"docker": {"high_bytes": 50000000000, "low_bytes": 40000000000}}}

disk_budget is the number of bytes that layers may take. Above it, the data of layers that were pulled lazily and
that nothing shows is evicted; their images stay, and the data comes again when it is read.`,
    )
    .action(async (flags: Flags) => {
      await withSession(host, flags, async (session) => {
        await collect(session, flags)
        const intervalMs = session.loam.store.configuration.values.image_gc_config?.intervalMs
        if (flags.watch !== true || intervalMs === undefined) return
        while (!session.signal.aborted) {
          await sleep(Math.min(intervalMs, MAX_TIMER_MS), undefined, { signal: session.signal }).catch(
            () => undefined,
          )
          if (session.signal.aborted) return
          try {
            await collect(session, flags)
          } catch (error) {
            // The next round may succeed; until then the operator should know.
            session.output.error(toLoamError(error, 'collect images'))
          }
        }
      })
    })
}

async function collect({ loam, output }: Session, { dryRun = false }: Flags): Promise<void> {
  const report = await loam.images.collect({ dryRun })
  output.result({ ...report, dryRun }, () => [
    ...report.reasons,
    ...report.images.map(({ digest, names }) => `image ${names[0] ?? digest}`),
    ...report.layers.map(({ diffId, tarBytes }) => `layer ${diffId} ${formatBytes(tarBytes)}`),
    ...report.evicted.map(({ diffId, tarBytes }) => `data of layer ${diffId} ${formatBytes(tarBytes)}`),
    report.reasons.length === 0
      ? 'enough disk space is free'
      : `${dryRun ? 'would free' : 'freed'} ${formatBytes(report.freedBytes)} of ${formatBytes(report.wantedBytes)}`,
  ])
}
