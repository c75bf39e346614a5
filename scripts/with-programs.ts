// node scripts/with-programs.ts FILE ARGUMENT…: runs a program that finds the built command and daemon by the environment.
import { spawnSync } from 'node:child_process'
import { InstalledPrograms, KEPT_CODE } from './installed-programs.ts'

using programs = new InstalledPrograms()
const { status } = spawnSync(process.execPath, process.argv.slice(2), {
  stdio: 'inherit',
  env: { ...process.env, ...KEPT_CODE, ...programs.env },
})
process.exitCode = status ?? 1
