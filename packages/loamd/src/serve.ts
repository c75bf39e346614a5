import { isLoamError } from 'loamfs'
import { protectMemory } from 'loamfs/internal'
import { Daemon } from './daemon.ts'
import { Log } from './log.ts'
import { type ServeFlags, settingsOf } from './serve-flags.ts'
import { Notifier } from './systemd/notifier.ts'
import { startWatchdog } from './systemd/watchdog.ts'

/** Serves until a signal stops it, and sets the exit status. */
export async function serve(flags: ServeFlags): Promise<void> {
  const { env } = process
  const log = new Log(flags.logLevel)
  const notifier = new Notifier(env, log)
  const stop = Promise.withResolvers<string>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop.resolve)
  try {
    protectMemory()
    await using daemon = await Daemon.start({
      flags: settingsOf(flags),
      configFile: flags.config,
      socketPath: flags.grpcSocket,
      httpSocketPath: flags.socket,
      isRemote: flags.remote,
      env,
      log,
    })
    const check = async () => daemon.check()
    using _watchdog = startWatchdog({ env, notifier, check, log })
    const { httpSocketPath: socket, root } = daemon
    log.info('serving', { grpcSocket: flags.grpcSocket, socket, pid: process.pid })
    notifier.ready(`serving ${root}`)
    const signal = await stop.promise
    log.info('stopping', { signal })
    notifier.stopping('finishing the requests in progress')
  } catch (error) {
    const hint = isLoamError(error) ? error.hint : undefined
    const message = error instanceof Error ? error.message : String(error)
    log.error('failed', { error: message, hint })
    notifier.send({ STATUS: `failed: ${message}` })
    process.exitCode = 1
  }
}
