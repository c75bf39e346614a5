// node scripts/run-tests.ts [--few | --short] TIER…: runs tiers of tests: unit (no root, no network), root (mounts), e2e (the command with real registries,
// runc, umoci), daemon (some of e2e through loamd). The files of the last three run beside each other, each in a process and a mount namespace of its own.
// A tier that ought to run and skipped everything is a failure.
import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { KEPT_CODE } from './installed-programs.ts'
import { TierRun } from './leftovers.ts'
import { LONG_TESTS } from './long-tests.ts'
import { hasRunTests, runProcess, TEST_LIMIT_MS } from './run-process.ts'
import { runSystemTiers } from './system-tiers.ts'
import { sharedCalls, type TestCall } from './test-processes.ts'

/** Tests of the command that hold as well when the daemon runs it: of results, errors, statuses, questions, signals and outputs. */
const THROUGH_DAEMON = ['cancel', 'export', 'outputs', 'prune', 'run', 'usage'].map(
  (name) => `packages/loam/test/e2e/${name}.test.ts`,
)

const UNIT = 'unit'
const FILES: Readonly<Record<string, readonly string[]>> = {
  [UNIT]: ['packages/*/src/**/*.test.ts', 'packages/*/test/{fuzz,simulation}/*.test.ts', 'scripts/*.test.ts'],
  root: ['packages/*/test/root/*.test.ts'],
  e2e: ['packages/*/test/e2e/*.test.ts'],
  daemon: THROUGH_DAEMON,
}
/** Files of the unit tier that have a process of their own, at once. */
const CONCURRENCY = 6

const { values, positionals } = parseArgs({
  options: {
    /** Few rounds of what is repeated at random. */
    few: { type: 'boolean', default: false },
    /** The same, without the tests that take long. */
    short: { type: 'boolean', default: false },
  },
  allowPositionals: true,
})
const env = { ...KEPT_CODE, ...(values.few || values.short ? { FEW_ROUNDS: '1' } : {}) }

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const tiers = positionals.map((name) => ({ name, files: filesOf(name) }))
const unit = tiers.find(({ name }) => name === UNIT)
const isUnitRight = unit === undefined || (await runUnitTier(unit.files))
const isSystemRight = await runSystemTiers(
  tiers.filter(({ name }) => name !== UNIT),
  env,
)
if (!isUnitRight || !isSystemRight) process.exitCode = 1

function filesOf(name: string): string[] {
  const globs = FILES[name]
  if (globs === undefined) throw new Error(`no tier ${name}: there are ${Object.keys(FILES).join(', ')}`)
  const found = globs.flatMap((glob) => globSync(glob))
  const files = values.short ? found.filter((file) => !LONG_TESTS.includes(file)) : found
  if (files.length === 0) throw new Error(`tier ${name}: it has no tests`)
  return files
}

async function runUnitTier(files: readonly string[]): Promise<boolean> {
  console.log(`\n== ${UNIT}: ${files.length} files ==`)
  using tier = new TierRun()
  const results = await Promise.all(
    sharedCalls(files).map(async (call) => runProcess(commandOf(call), { ...tier.env, ...env })),
  )
  for (const { output } of results) process.stdout.write(output)
  const left = await tier.find()
  for (const what of left) console.error(`tier ${UNIT} has left: ${what}`)
  if (!results.every(hasRunTests)) console.error(`tier ${UNIT}: no test ran`)
  return results.every((result) => result.status === 0 && hasRunTests(result)) && left.length === 0
}

function commandOf({ files, isShared }: TestCall): string[] {
  const isolation = isShared ? '--test-isolation=none' : `--test-concurrency=${CONCURRENCY}`
  const options = ['--test', isolation, '--test-reporter=spec', `--test-timeout=${TEST_LIMIT_MS}`]
  return [process.execPath, ...options, ...files]
}
