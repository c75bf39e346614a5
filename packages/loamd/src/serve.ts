import { homedir } from 'node:os'
import { isLoamError } from 'loamfs'
import { protectMemory } from 'loamfs/internal'
import { Daemon } from './daemon.ts'
import { IdleMemory } from './idle-memory.ts'
import { Log } from './log.ts'
import { type ServeFlags, settingsOf } from './serve-flags.ts'
import { reportSuccession, startSuccessor } from './systemd/hand-over.ts'
import { Notifier } from './systemd/notifier.ts'
import { startWatchdog } from './systemd/watchdog.ts'
import { isTracingWanted } from './tracing/tracing.ts'

/** Serves until a signal stops it or another daemon has taken over, and sets the exit status. */
export async function serve(flags: ServeFlags): Promise<void> {
  // A service of systemd has no HOME, and the files of `docker login` are there.
  const env = { HOME: homedir(), ...process.env }
  const log = new Log(flags.logLevel)
  const notifier = new Notifier(env, log)
  const stop = Promise.withResolvers<string>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop.resolve)
  // By default it would end the process, also while that cleans up at its start.
  const reload = new ReloadRequests()
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
    const watchdog = startWatchdog({ env, notifier, check: async () => daemon.check(), log })
    using _memory = new IdleMemory()
    const { httpSocketPath: socket, root } = daemon
    log.info('serving', { grpcSocket: flags.grpcSocket, socket, pid: process.pid })
    notifier.ready(`serving ${root}`)
    reportSuccession(env)
    const stopped = new AbortController()
    const handedOver = handOverOnRequest(daemon, { notifier, log, reload }, stopped.signal)
    const signal = await Promise.race([stop.promise, handedOver])
    stopped.abort()
    watchdog[Symbol.dispose]()
    // After a hand-over the other daemon notifies the service manager.
    if (signal === undefined) await Promise.race([stop.promise, daemon.finish()])
    else {
      log.info('stopping', { signal })
      notifier.stopping('finishing the requests in progress')
    }
  } catch (error) {
    const hint = isLoamError(error) ? error.hint : undefined
    const message = error instanceof Error ? error.message : String(error)
    log.error('failed', { error: message, hint })
    notifier.send({ STATUS: `failed: ${message}` })
    process.exitCode = 1
  }
  // A collector that does not answer would keep the process for as long as the exporter waits for it.
  if (isTracingWanted(env)) process.exit()
}

/**
 * On SIGHUP starts the installed daemon with the current settings, and resolves when it serves. If it cannot start, this one continues
 * with its settings.
 */
async function handOverOnRequest(
  daemon: Daemon,
  {
    notifier,
    log,
    reload,
  }: { readonly notifier: Notifier; readonly log: Log; readonly reload: ReloadRequests },
  stopped: AbortSignal,
): Promise<undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const handOver = async () => {
    if (stopped.aborted) return undefined
    notifier.reloading()
    try {
      daemon.checkSettings()
      const pid = await startSuccessor(daemon.sockets, stopped)
      log.info('handed over', { pid })
      resolve(undefined)
      return pid
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      log.error('reload', { error: message, hint: isLoamError(error) ? error.hint : undefined })
      // A daemon that stops is not ready any more.
      if (!stopped.aborted) notifier.ready(`serving ${daemon.root}; the last reload failed: ${message}`)
      return undefined
    }
  }
  void reload.serve(handOver)
  return promise
}

/**
 * Handles SIGHUP from the start of the process on. One that arrives before the daemon serves takes effect when it does; one that arrives while
 * another daemon takes over is passed on to that one, which may have read its settings already.
 */
class ReloadRequests {
  #isWanted = false
  #wake: (() => void) | undefined

  constructor() {
    process.on('SIGHUP', () => {
      this.#isWanted = true
      this.#wake?.()
    })
  }

  /** Calls `handOver` for each request until it returns the process that has taken over. Later requests are for that one, and ignored here. */
  async serve(handOver: () => Promise<number | undefined>): Promise<void> {
    for (;;) {
      while (!this.#isWanted) await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#isWanted = false
      const successor = await handOver()
      if (successor === undefined) continue
      if (this.#isWanted) passOn(successor)
      return
    }
  }
}

function passOn(successor: number): void {
  try {
    process.kill(successor, 'SIGHUP')
  } catch {
    // It has ended meanwhile, and whoever starts it again gives it the settings of now.
  }
}
