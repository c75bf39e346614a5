// The cost of waiting for the disk: the same pull with all flushes turned off (libeatmydata), which is unsafe in production.
import { setTimeout as sleep } from 'node:timers/promises'
import { median } from './measure.ts'
import { run } from './tools.ts'

const CARELESS = 'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libeatmydata.so'

export interface SyncingBench {
  /** The command. */
  readonly loam: string
  readonly runs: number
  readonly createDisk: () => string
  readonly removeDisk: (mount: string) => void
}

/** Pulls an image on fresh disks, with and without flushes in turns, and prints medians. */
export async function benchSyncing(bench: SyncingBench, image: string): Promise<void> {
  for (const verb of ['pull', 'provision --backend erofs --id bench']) {
    const flushing: number[] = []
    const careless: number[] = []
    for (let round = 0; round <= bench.runs; round += 1) {
      const pair = [
        await timeOf(bench, `${verb} ${image}`, ''),
        await timeOf(bench, `${verb} ${image}`, CARELESS),
      ]
      // The first round warms the registry.
      if (round === 0) continue
      flushing.push(pair[0] ?? 0)
      careless.push(pair[1] ?? 0)
    }
    const [seconds, unflushed] = [median(flushing), median(careless)]
    console.log(
      `${verb.split(' ')[0]}: ${seconds.toFixed(2)} s, without any flush ${unflushed.toFixed(2)} s: ${((seconds / unflushed - 1) * 100).toFixed(1)} % (medians of ${bench.runs})`,
    )
  }
}

/** Seconds that one call takes on a fresh disk. */
async function timeOf(
  { loam, createDisk, removeDisk }: SyncingBench,
  verb: string,
  env: string,
): Promise<number> {
  const mount = createDisk()
  try {
    await sleep(500)
    const start = performance.now()
    run(`${env} ${loam} --root ${mount}/store --state ${mount}/state --quiet ${verb} >/dev/null`)
    return (performance.now() - start) / 1000
  } finally {
    removeDisk(mount)
  }
}
