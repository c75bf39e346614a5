import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { LoamError, throwIfAborted } from '../errors/index.ts'
import { createDirectories, findProgram, isMachineRoot, runForeground, searchPath } from '../linux/index.ts'
import type { TerminalSize } from '../runtime/index.ts'
import { isMonitorGone, MONITOR_FILES, readMonitor } from './monitor-files.ts'
import { bundlePath, readFailure, runtimeProgram, type RuntimePaths, startFailed } from './oci-runtime.ts'
import type { RunStarter } from './requests.ts'

/** Starts the monitor in a session of its own, where the signals of a terminal do not reach it, and returns at once. */
const LAUNCH = 'setsid sh -c "$@" </dev/null >/dev/null 2>&1 &'
/**
 * Under systemd the monitor gets a scope, so that the end of the caller's service or session does not kill it. systemd-run becomes the monitor: it may also
 * fail because the scope was stopped, and the monitor is not started twice. The first argument is the file that the monitor makes.
 */
const IN_SCOPE = `began=$1; shift
systemd-run --scope --collect --quiet --no-ask-password sh -c "$@" || [ -e "$began" ] || sh -c "$@"`
/**
 * The monitor: it writes the status to another name first, so that the file is whole when it exists. Descriptor 3 keeps the pipe open, from which the
 * process reads. `keep` writes the output to the log, and begins a new one when it is full (output-log.ts); `head` without a buffer, so that `logs` sees
 * each line at once. When the disk is full, what `head` has read is lost, at most 8 KiB, and the log says so; the process waits until there is room again,
 * but its end is known a minute later at most. Without `stdbuf` the log has no limit.
 */
export const MONITOR = `
cd "$1" || exit 0
echo $$ >${MONITOR_FILES.began}
log=$2 max=$3 remove=$4 keepsInput=$5
shift 5
rm -f ${MONITOR_FILES.newExit}
tries=0
if [ -n "$keepsInput" ]; then mkfifo -m 600 ${MONITOR_FILES.stdin}; exec 3<>${MONITOR_FILES.stdin} <&3; fi
run() { "$@" 3>&-; echo $? >${MONITOR_FILES.newExit}; }
waitForRoom() {
  sleep 1
  until [ ! -e "$log" ] || head -c 65536 /dev/zero >"$log.probe"; do
    rm -f "$log.probe"
    if [ -e ${MONITOR_FILES.newExit} ] && [ $((tries += 1)) -gt 60 ]; then break; fi
    sleep 1
  done
  rm -f "$log.probe"
  [ ! -e "$log" ] || printf '\\nloam: output was lost here: the log could not be written, for example because the disk was full\\n' >>"$log"
}
keep() {
  umask 077
  while :; do
    left=$((max - $(wc -c <"$log")))
    if [ "$left" -gt 0 ]; then
      stdbuf -o0 head -c "$left" >>"$log" || { waitForRoom; continue; }
      [ "$(wc -c <"$log")" -ge "$max" ] || return
    fi
    ln -f "$log" "$log.1" && : >"$log.new" && mv -f "$log.new" "$log" || sleep 1
  done
}
if command -v stdbuf >/dev/null; then run "$@" 2>&1 | keep 2>/dev/null 3>&-; else run "$@" >>"$log" 2>&1; fi
mv ${MONITOR_FILES.newExit} ${MONITOR_FILES.exit}
cd /
[ -z "$remove" ] || sh -c "$remove" >/dev/null 2>&1
exit 0
`
/** Size of the terminal of a process in the background: that of the first ones. */
export const DETACHED_TERMINAL: TerminalSize = { columns: 80, rows: 24 }
const POLL_MS = 5
/** The runtime may still start the process when its monitor was killed. */
const GONE_MS = 10_000
/** Exists where systemd is the first process (sd_booted(3)). */
const SYSTEMD = '/run/systemd/system'

/** How to start a bundle in the background. */
export interface DetachedStart {
  readonly id: string
  /** File that the output of the process is appended to. */
  readonly log: string
  /** Bytes of the log to keep: at least the last half of them, and at most all. */
  readonly logBytes: number
  /** Whether standard input stays open, without data; otherwise it is empty. */
  readonly keepsInput: boolean
  /** Whether the process has a terminal, which nothing is typed at. */
  readonly terminal: boolean
  /** Program that removes the container when the process has ended. Undefined: the container stays. */
  readonly remove: readonly string[] | undefined
  readonly start: RunStarter['start'] | undefined
  readonly signal: AbortSignal | undefined
}

/** Starts the process of a bundle, and returns when it runs. It outlives this process. The caller holds `lockProcess`. @throws as `runBundle`, CANCELED */
export async function startBundle(
  paths: RuntimePaths,
  { id, log, logBytes, keepsInput, terminal, remove, start, signal }: DetachedStart,
): Promise<void> {
  const needed = ['setsid', ...(terminal ? ['script'] : [])]
  const missing = needed.find((name) => findProgram(name, searchPath(paths.env)) === undefined)
  if (missing !== undefined) {
    throw new LoamError('RUNTIME_FAILED', `run ${id} in the background: there is no ${missing}`, {
      hint: 'Install util-linux (on Debian also bsdutils), or run it in the foreground.',
    })
  }
  const bundle = bundlePath(paths, id)
  const at = (name: string) => join(bundle, name)
  const { began, newExit, exit, pid, stdin } = MONITOR_FILES
  for (const name of [began, newExit, exit, pid, stdin, 'runtime.log']) rmSync(at(name), { force: true })
  writeFileSync(at(MONITOR_FILES.mark), remove === undefined ? 'keep' : 'remove')
  createDirectories(join(log, '..'))
  writeFileSync(log, '', { flag: 'a', mode: 0o600 })
  const runtime = runtimeProgram(paths, id, ['--pid-file', at(MONITOR_FILES.pid)])
  const parts = String(Math.ceil(logBytes / 2))
  const hasInput = keepsInput || terminal ? 'yes' : ''
  const words = [bundle, log, parts, remove?.map(quote).join(' ') ?? '', hasInput]
  const call = [runtime.file, ...runtime.args]
  const { columns, rows } = DETACHED_TERMINAL
  const line = `stty rows ${rows} columns ${columns}; exec ${call.map(quote).join(' ')}`
  const program = terminal ? ['script', '-q', '-e', '-f', '-c', line, '/dev/null'] : call
  const monitor = [MONITOR, 'loam-monitor', ...words, ...program]
  const launch = hasScopes(runtime.env) ? [IN_SCOPE, 'loam', at(MONITOR_FILES.began), ...monitor] : monitor
  const launcher = { file: '/bin/sh', args: ['-c', LAUNCH, 'loam', ...launch], env: runtime.env }
  const run = start ?? (async ({ file, args, env }) => runForeground(file, args, { env }))
  const status = await run(launcher, { id, keep: true, pidFile: at(MONITOR_FILES.pid) })
  if (status !== 0) throw new LoamError('RUNTIME_FAILED', `run ${id}: its monitor could not be started`)
  await waitForStart(paths, id, signal)
}

async function waitForStart(paths: RuntimePaths, id: string, signal: AbortSignal | undefined): Promise<void> {
  const bundle = bundlePath(paths, id)
  let goneUntil = performance.now() + GONE_MS
  while (!existsSync(join(bundle, MONITOR_FILES.pid))) {
    // Before its files are read: it writes the last one when it ends.
    const wasGone = isMonitorGone(bundle)
    const state = readMonitor(bundle)
    if (state?.exitStatus !== undefined && state.pid === undefined) {
      const failure = readFailure(join(bundle, 'runtime.log'))
      throw startFailed(paths, id, failure ?? `it ended with status ${state.exitStatus}`)
    }
    if (!wasGone) goneUntil = performance.now() + GONE_MS
    else if (performance.now() > goneUntil) throw startFailed(paths, id, 'its monitor was killed')
    throwIfAborted(signal, `run ${id}`)
    await sleep(POLL_MS)
  }
}

function hasScopes(env: Readonly<Record<string, string>>): boolean {
  return isMachineRoot() && existsSync(SYSTEMD) && findProgram('systemd-run', searchPath(env)) !== undefined
}

/** Quotes a word for a shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}
