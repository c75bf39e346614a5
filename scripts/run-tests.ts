// node scripts/run-tests.ts [--few | --short] TIER…: runs tiers of tests: unit (no root, no network), root (mounts, in a mount namespace of its own),
// e2e (the command with real registries, runc, umoci). A tier that ought to run and skipped everything is a failure.
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { InstalledPrograms, KEPT_CODE } from './installed-programs.ts'
import { TierRun } from './leftovers.ts'
import { LONG_TESTS, longestFirst } from './long-tests.ts'
import { sharedCalls, type TestCall } from './test-processes.ts'
import { describeProcessorTimes, TEST_PROCESS_OPTIONS, ProcessorTimes } from './processor-times.ts'

/** Tests of the command that hold as well when the daemon runs it: of results, errors, statuses, questions, signals and outputs. */
const THROUGH_DAEMON = ['cancel', 'export', 'outputs', 'prune', 'run', 'usage'].map(
  (name) => `packages/loam/test/e2e/${name}.test.ts`,
)

interface Tier {
  readonly files: readonly string[]
  readonly needsRoot: boolean
}

const TIERS: Readonly<Record<string, Tier>> = {
  unit: {
    files: [
      'packages/*/src/**/*.test.ts',
      'packages/*/test/{fuzz,simulation}/*.test.ts',
      'scripts/*.test.ts',
    ],
    needsRoot: false,
  },
  root: { files: ['packages/*/test/root/*.test.ts'], needsRoot: true },
  e2e: { files: ['packages/*/test/e2e/*.test.ts'], needsRoot: true },
  daemon: { files: THROUGH_DAEMON, needsRoot: true },
}

/** A file of tests uses a third of a core: the rest of its time it waits for disks and for other processes. So there are three times as many files as cores. */
const CONCURRENCY = 6
const KEPT_THREADS = new URL('../packages/loam/test/support/kept-threads.ts', import.meta.url).href
const RUN_FILES = fileURLToPath(new URL('run-files.ts', import.meta.url))
/** Time limit of a test, and of a file of tests: many times the usual time, for busy machines. */
const TEST_LIMIT_MS = 1_500_000
/** A tier without output for this time hangs, and is ended with all its processes, so that its output is shown. */
const SILENCE_LIMIT_MS = TEST_LIMIT_MS + 60_000

/** Runs a command and records the mounts after it. */
const THEN_MOUNTS = '"$@"; status=$?; cat /proc/self/mountinfo >"$0"; exit $status'

const { values, positionals } = parseArgs({
  options: {
    /** Few rounds of what is repeated at random. */
    few: { type: 'boolean', default: false },
    /** The same, without the tests that take long. */
    short: { type: 'boolean', default: false },
  },
  allowPositionals: true,
})

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
for (const name of positionals) {
  const tier = TIERS[name]
  if (tier === undefined) throw new Error(`no tier ${name}: there are ${Object.keys(TIERS).join(', ')}`)
  if (!(await runTier(name, tier.files, tier.needsRoot))) process.exitCode = 1
}

async function runTier(name: string, globs: readonly string[], needsRoot: boolean): Promise<boolean> {
  const found = globs.flatMap((glob) => globSync(glob))
  const files = values.short ? found.filter((file) => !LONG_TESTS.includes(file)) : found
  if (files.length === 0) return fail(name, 'it has no tests')
  if (needsRoot && process.geteuid?.() !== 0) return fail(name, 'it needs root')
  const calls = needsRoot ? [{ files, isShared: false }] : sharedCalls(files)
  using programs = name === 'e2e' || name === 'daemon' ? new InstalledPrograms() : undefined
  using tier = new TierRun()
  using times = new ProcessorTimes()
  // A mount that a test leaves is removed with its namespace, and reported.
  const inNamespace = [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    THEN_MOUNTS,
    tier.mountsFile,
  ]
  console.log(`\n== ${name}: ${files.length} files ==`)
  const env = {
    ...tier.env,
    ...programs?.env,
    ...times.env,
    ...KEPT_CODE,
    ...(values.few || values.short ? { FEW_ROUNDS: '1' } : {}),
    ...(name === 'daemon' ? { THROUGH_DAEMON: '1' } : {}),
  }
  const results = await Promise.all(
    calls.map(async (call) =>
      run([...(needsRoot ? inNamespace : []), ...commandOf(call, needsRoot)], env, calls.length === 1),
    ),
  )
  const left = await tier.find()
  for (const what of left) console.error(`tier ${name} has left: ${what}`)
  if (needsRoot) console.log(describeProcessorTimes(times.read()).join('\n'))
  if (results.some(({ output }) => !/^ℹ pass [1-9]/m.test(output))) return fail(name, 'no test ran')
  return results.every(({ status }) => status === 0) && left.length === 0
}

function commandOf({ files, isShared }: TestCall, needsRoot: boolean): string[] {
  if (isShared)
    return [
      process.execPath,
      '--test-isolation=none',
      '--test',
      '--test-reporter=spec',
      `--test-timeout=${TEST_LIMIT_MS}`,
      ...files,
    ]
  const options = ['--concurrency', String(CONCURRENCY), '--limit', String(TEST_LIMIT_MS)]
  const imports = [...TEST_PROCESS_OPTIONS, ...(needsRoot ? ['--import', KEPT_THREADS] : [])]
  return [process.execPath, ...imports, RUN_FILES, ...options, ...longestFirst(files)]
}

function fail(name: string, why: string): boolean {
  console.error(`tier ${name}: ${why}`)
  return false
}

/** Runs a command, and shows its output as it comes, or in one piece if others run beside it. */
async function run(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  isLive: boolean,
): Promise<{ status: number | null; output: string }> {
  const [file = '', ...args] = command
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true, env })
  let output = ''
  const limit = setTimeout(() => {
    console.error(`ended after ${SILENCE_LIMIT_MS / 1000} s of silence: it hangs`)
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  }, SILENCE_LIMIT_MS)
  child.stdout.on('data', (chunk: Buffer) => {
    limit.refresh()
    output += chunk.toString('utf8')
    if (isLive) process.stdout.write(chunk)
  })
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  const status = await promise
  clearTimeout(limit)
  if (!isLive) process.stdout.write(output)
  return { status, output }
}
