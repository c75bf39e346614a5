// Loaded into the process of each file of tests, and into those that run its commands: see processor-times.ts.
import { readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { isMainThread } from 'node:worker_threads'

/** Fields of proc_pid_stat(5), counted behind the name: utime, stime, cutime and cstime, in hundredths of a second. */
const FIRST_FIELD = 11
const FIELDS = 4
const TICKS_IN_SECOND = 100

const folder = process.env['PROCESSOR_TIMES']
const file = process.argv.slice(1, 3).find((arg) => arg.endsWith('.test.ts'))
if (folder !== undefined && file !== undefined && isMainThread) {
  process.on('exit', () => {
    const stat = readFileSync('/proc/self/stat', 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = fields.slice(FIRST_FIELD, FIRST_FIELD + FIELDS).map(Number)
    const seconds = ticks.reduce((all, each) => all + each, 0) / TICKS_IN_SECOND
    try {
      writeFileSync(
        join(folder, `${process.pid}.json`),
        JSON.stringify({ file: relative('.', file), seconds }),
      )
    } catch (error) {
      // Tests are not wrong because their measure cannot be written.
      console.error(`write the processor time: ${String(error)}`)
    }
  })
}
