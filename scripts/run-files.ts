// node scripts/run-files.ts --concurrency N --limit MS FILE…: runs files of tests, each in a process of its own, in the given order. `node --test` sorts
// them by name, and so may begin the longest one when all others are done.
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  options: { concurrency: { type: 'string' }, limit: { type: 'string' } },
  allowPositionals: true,
})
run({ files: positionals, concurrency: Number(values.concurrency), timeout: Number(values.limit) })
  .on('test:fail', () => {
    process.exitCode = 1
  })
  .compose(spec)
  .pipe(process.stdout)
