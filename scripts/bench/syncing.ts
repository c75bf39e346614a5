// What waiting for the disk costs: the same pull with all flushes turned off (libeatmydata), which nobody should do otherwise.
import { setTimeout as sleep } from 'node:timers/promises'
import { median } from './measure.ts'
import { run } from './tools.ts'

const CARELESS = 'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libeatmydata.so'

export interface SyncingBench {
  /** The command. */
  readonly loam: string
  readonly runs: number
  readonly makeDisk: () => string
  readonly removeDisk: (mount: string) => void
}

/** Pulls an image on fresh disks, with and without flushes in turns, and prints medians. */
export async function benchSyncing(
  { loam, runs, makeDisk, removeDisk }: SyncingBench,
  image: string,
): Promise<void> {
  for (const verb of ['pull', 'provision --backend erofs --id bench']) {
    const seconds: Record<string, number[]> = { flushing: [], careless: [] }
    for (let round = 0; round <= runs; round += 1) {
      for (const [name, list] of Object.entries(seconds)) {
        const mount = makeDisk()
        try {
          await sleep(500)
          const start = performance.now()
          run(
            `${name === 'careless' ? CARELESS : ''} ${loam} --root ${mount}/store --state ${mount}/state --quiet ${verb} ${image} >/dev/null`,
          )
          // The first round warms the registry.
          if (round > 0) list.push((performance.now() - start) / 1000)
        } finally {
          removeDisk(mount)
        }
      }
    }
    const [flushing, careless] = [median(seconds['flushing'] ?? []), median(seconds['careless'] ?? [])]
    console.log(
      `${verb.split(' ')[0]}: ${flushing.toFixed(2)} s, without any flush ${careless.toFixed(2)} s: ${((flushing / careless - 1) * 100).toFixed(1)} % (medians of ${runs})`,
    )
  }
}
