// The tiers of tests that need root. Their files run beside each other, so that a tier that ends with a long one leaves no processor idle.
import { InstalledPrograms } from './installed-programs.ts'
import { TierRun } from './leftovers.ts'
import { longestFirst } from './long-tests.ts'
import { describeProcessorTimes, ProcessorTimes, TEST_PROCESS_OPTIONS } from './processor-times.ts'
import { hasRunTests, runProcess } from './run-process.ts'

/** A file of tests uses a third of a core: the rest of its time it waits for disks and for other processes. So there are three times as many files as cores. */
const AT_ONCE = 6
const KEPT_THREADS = new URL('../packages/loam/test/support/kept-threads.ts', import.meta.url).href

/** Runs a command and records the mounts after it: a mount that a test leaves is removed with its namespace, and reported. */
const THEN_MOUNTS = '"$@"; status=$?; cat /proc/self/mountinfo >"$0"; exit $status'
const IN_NAMESPACE = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', THEN_MOUNTS]
const TEST_COMMAND = [
  process.execPath,
  ...TEST_PROCESS_OPTIONS,
  '--import',
  KEPT_THREADS,
  '--test-reporter=spec',
]

/** A tier, by its name, and its files. */
export interface Tier {
  readonly name: string
  readonly files: readonly string[]
}

/** A tier that is running. */
class RunningTier implements Disposable {
  readonly #name: string
  readonly #env: NodeJS.ProcessEnv
  readonly #run = new TierRun()
  readonly #times = new ProcessorTimes()
  #isRight = true
  #hasRun = false

  constructor(name: string, env: NodeJS.ProcessEnv) {
    this.#name = name
    this.#env = {
      ...this.#run.env,
      ...this.#times.env,
      ...env,
      ...(name === 'daemon' ? { THROUGH_DAEMON: '1' } : {}),
    }
  }

  /** Runs a file, and prints its output. */
  async runFile(file: string): Promise<void> {
    const result = await runProcess(
      [...IN_NAMESPACE, this.#run.newMountsFile(), ...TEST_COMMAND, file],
      this.#env,
    )
    const { status, output } = result
    console.log(`\n-- ${this.#name}: ${file}\n${output}`)
    if (status !== 0) this.#fail(`${file} has failed (${status ?? 'a signal'})`)
    this.#hasRun ||= hasRunTests(result)
  }

  /** Returns whether all was right, and nothing is left. */
  async end(): Promise<boolean> {
    for (const what of await this.#run.find()) this.#fail(`it has left: ${what}`)
    if (!this.#hasRun) this.#fail('no test ran')
    console.log(`\n== ${this.#name} ==\n${describeProcessorTimes(this.#times.read()).join('\n')}`)
    return this.#isRight
  }

  #fail(why: string): void {
    console.error(`tier ${this.#name}: ${why}`)
    this.#isRight = false
  }

  [Symbol.dispose](): void {
    this.#run[Symbol.dispose]()
    this.#times[Symbol.dispose]()
  }
}

/** Runs tiers, and returns whether all was right. */
export async function runSystemTiers(tiers: readonly Tier[], env: NodeJS.ProcessEnv): Promise<boolean> {
  if (tiers.length === 0) return true
  if (process.geteuid?.() !== 0) throw new Error('these tests need root')
  using open = new DisposableStack()
  const programs = tiers.some(({ name }) => name !== 'root') ? open.use(new InstalledPrograms()) : undefined
  const running = tiers.map(({ name, files }) => {
    console.log(`\n== ${name}: ${files.length} files ==`)
    // The tests of the library run its sources.
    const tier = new RunningTier(name, { ...env, ...(name === 'root' ? {} : programs?.env) })
    return { tier: open.use(tier), files }
  })
  const waiting = longestFirst(
    running.flatMap(({ tier, files }) => files.map((file) => ({ tier, file }))),
    ({ file }) => file,
  )
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      await next.tier.runFile(next.file)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  const results = await Promise.all(running.map(async ({ tier }) => tier.end()))
  return results.every(Boolean)
}
