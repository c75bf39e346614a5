// A process that runs commands one after another, for command-thread.ts: the same as `loam ARGS`, in a process that has started already.
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { CommandCall } from './commands.ts'
import { commandModule } from './test-tools.ts'

/** The command's `main`: see src/cli/main.ts. */
interface CommandModule {
  readonly main: (args: readonly string[], version: string) => Promise<void>
}

// The same as in bin/loam.cjs of a checkout.
enableCompileCache(fileURLToPath(new URL('../../../../node_modules/.cache/compiled', import.meta.url)))
await import('./kept-threads.ts')
const { main } = (await import(commandModule())) as CommandModule
// Each command adds some, as it may in a process of its own.
process.setMaxListeners(0)

process.on('message', (call: CommandCall) => {
  void run(call)
})
process.on('disconnect', () => {
  process.exit()
})
process.send?.('ready')

async function run({ args, cwd, env }: CommandCall): Promise<void> {
  process.chdir(cwd)
  for (const name of Object.keys(process.env)) if (!(name in env)) Reflect.deleteProperty(process.env, name)
  Object.assign(process.env, env)
  process.exitCode = 0
  const earlier = process.listeners('exit')
  await main(args, '0.1.0')
  for (const listener of process.listeners('exit'))
    if (!earlier.includes(listener)) process.off('exit', listener)
  process.send?.({ status: exitCode() })
}

function exitCode(): unknown {
  return process.exitCode
}
