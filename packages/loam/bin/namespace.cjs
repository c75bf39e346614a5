// The user namespace of a user who is not root: the command enters it before anything of Loam is loaded, because only a process with one thread
// may enter one. In it the user is root of the own files and of the user's subordinate IDs (subuid(5)), and may mount overlayfs. A process keeps the
// namespaces with their mounts from one command to the next, as long as its file exists:
//
//   STATE/namespace        pid, start time and boot of that process, and which IDs it has, as JSON
//   STATE/namespace.lock   held while one is created
//
// Plain JavaScript without new syntax, as loam.cjs.
'use strict'
const fs = require('node:fs')
const os = require('node:os')
const { spawn, spawnSync } = require('node:child_process')

const PATH = `${process.env.PATH || ''}:/usr/sbin:/usr/bin:/sbin:/bin`
/** For a shell: waits for the IDs, creates the namespace of mounts, and lives as long as the file $0. */
const KEEPER = 'while [ -e "$0" ]; do sleep 60; done'
const HOLDER = `echo; read -r _; exec unshare --mount --propagation slave sh -c 'echo; read -r _; exec </dev/null >/dev/null 2>&1; ${KEEPER}' "$0"`
const WAIT_MS = 20000
const NSSWITCH = '/etc/nsswitch.conf'

/**
 * Replaces this process by a program in the user namespace of the user. Returns only where that is not possible. LOAM_ROOTLESS says which user
 * and IDs it has, and why not more; also the socket of a daemon, whose directories were found to be safe outside, where their owners are known.
 */
async function enter({ state, daemon, file, args }) {
  const identity = { uid: process.geteuid(), gid: process.getegid(), daemon }
  try {
    const { pid, ids, why } = findCurrentHolder(state) || (await createHolder(state))
    // The working directory is found again behind the mounts of the namespace.
    const words = ['-c', 'cd -- "$0" 2>/dev/null || cd /; exec "$@"', ownDirectory()].concat(file, args)
    const namespaces = [
      `--user=/proc/${pid}/ns/user`,
      `--mount=/proc/${pid}/ns/mnt`,
      '--preserve-credentials',
    ]
    const env = Object.assign({}, process.env, {
      LOAM_ROOTLESS: JSON.stringify(Object.assign({ ids, why }, identity)),
    })
    replaceBy('nsenter', namespaces.concat('sh', words), env)
  } catch (error) {
    process.env.LOAM_ROOTLESS = JSON.stringify(Object.assign({ ids: 'none', why: error.message }, identity))
  }
}

/** Returns '/' if the directory was removed: it cannot be found again. */
function ownDirectory() {
  try {
    return process.cwd()
  } catch {
    return '/'
  }
}

function replaceBy(name, args, env) {
  if (process.execve === undefined) throw new Error(`Node ${process.version} cannot replace a process`)
  const path = findProgram(name)
  // The call is experimental, and Node says so on standard error.
  process.removeAllListeners('warning')
  process.execve(path, [name].concat(args), env)
}

function findProgram(name) {
  for (const folder of PATH.split(':')) {
    const path = `${folder}/${name}`
    if (folder[0] === '/' && fs.existsSync(path)) return path
  }
  throw new Error(
    `${name} is not installed (${['newuidmap', 'newgidmap', 'getsubids'].includes(name) ? 'uidmap' : 'util-linux'})`,
  )
}

/** Returns what the file says if its process lives. */
function findHolder(state) {
  try {
    const holder = JSON.parse(fs.readFileSync(`${state}/namespace`, 'utf8'))
    if (holder.boot === bootId() && holder.startedAt === startTime(holder.pid)) return holder
  } catch {
    // It has none, or its process has ended.
  }
  return undefined
}

/** The same, unless it has one ID, and others are there now that were not tried: then the user has followed the hint, and a new one is made. */
function findCurrentHolder(state) {
  const holder = findHolder(state)
  if (holder === undefined || holder.ids !== 'single' || [undefined, holder.tried].includes(rangesNow()))
    return holder
  if (!hasOwnMounts(holder.pid)) return undefined
  const why = `subordinate IDs are available now, but the namespace of the user is in use: unmount what is mounted, or remove ${state}/namespace`
  return Object.assign({}, holder, { why })
}

/** Returns whether the namespace has mounts where this process sees none: those of containers and of the store. */
function hasOwnMounts(pid) {
  const points = (id) => {
    const lines = fs.readFileSync(`/proc/${id}/mountinfo`, 'utf8').trim().split('\n')
    return lines.map((line) => line.split(' ')[4])
  }
  const own = new Set(points('self'))
  return points(pid).some((point) => !own.has(point))
}

function bootId() {
  return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Field 22 of proc_pid_stat(5); the name of a program may have spaces and parentheses. */
function startTime(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
}

/** Creates the namespaces and the process that keeps them, unless another command does at this moment: then returns what that one made. */
async function createHolder(state) {
  fs.mkdirSync(state, { recursive: true, mode: 0o700 })
  // It is closed when this process is replaced or ends, and no other process keeps it.
  const lock = fs.openSync(`${state}/namespace.lock`, 'a', 0o600)
  const locked = spawnSync(findProgram('flock'), ['3'], {
    stdio: ['ignore', 'ignore', 'ignore', lock],
    timeout: WAIT_MS,
  })
  if (locked.status !== 0) throw locked.error || new Error(`flock ended with status ${locked.status}`)
  try {
    const found = findCurrentHolder(state)
    if (found !== undefined) return found
    const old = findHolder(state)
    fs.rmSync(`${state}/namespace`, { force: true })
    if (old !== undefined) process.kill(old.pid, 'SIGKILL')
    const all = await startHolder(state, mapAll).catch((error) => error)
    if (!(all instanceof Error)) return all
    // The first of the programs may have mapped the users already: one ID needs a new namespace.
    return await startHolder(state, (pid) => mapOne(pid, all.message))
  } finally {
    fs.closeSync(lock)
  }
}

/** Starts the process that keeps the namespaces; `map` gives it its IDs. */
async function startHolder(state, map) {
  const child = spawn(findProgram('unshare'), ['--user', 'sh', '-c', HOLDER, `${state}/namespace`], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH },
  })
  try {
    await answerOf(child)
    const { ids, why } = map(child.pid)
    child.stdin.write('\n')
    await answerOf(child)
    const holder = {
      pid: child.pid,
      startedAt: startTime(child.pid),
      boot: bootId(),
      ids,
      why,
      tried: rangesNow(),
    }
    fs.writeFileSync(`${state}/namespace.new`, JSON.stringify(holder), { mode: 0o600 })
    fs.renameSync(`${state}/namespace.new`, `${state}/namespace`)
    await new Promise((resolve) => child.stdin.end('\n', resolve))
    return holder
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    for (const stream of [child.stdout, child.stderr]) stream.destroy()
    child.removeAllListeners()
    child.unref()
  }
}

/** Waits for a line of the child. */
function answerOf(child) {
  return new Promise((resolve, reject) => {
    let said = ''
    const timer = setTimeout(() => reject(new Error('unshare did not answer')), WAIT_MS)
    const fail = (error) => {
      clearTimeout(timer)
      reject(error)
    }
    child.stderr.on('data', (chunk) => {
      said = `${said}${chunk}`.slice(0, 1000)
    })
    child.on('error', fail)
    child.stdin.on('error', fail)
    child.on('close', (status) => fail(new Error(said.trim() || `unshare ended with status ${status}`)))
    child.stdout.once('data', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** Returns what gives the namespace all subordinate IDs of the user. */
function findAll() {
  const { username } = os.userInfo()
  const names = [username, String(process.geteuid())]
  const uids = subordinates({ file: '/etc/subuid', words: [] }, names)
  const gids = subordinates({ file: '/etc/subgid', words: ['-g'] }, names)
  return { uids, gids, newuidmap: findProgram('newuidmap'), newgidmap: findProgram('newgidmap') }
}

/** Returns the subordinate IDs as a text that others can be compared with; undefined if they cannot be mapped. */
function rangesNow() {
  try {
    return JSON.stringify(findAll())
  } catch {
    return undefined
  }
}

/** Gives the namespace all subordinate IDs of the user. */
function mapAll(pid) {
  const { uids, gids, newuidmap, newgidmap } = findAll()
  runMap(newuidmap, pid, process.geteuid(), uids)
  runMap(newgidmap, pid, process.getegid(), gids)
  return { ids: 'subordinate' }
}

/** Gives the namespace the user's own ID alone. */
function mapOne(pid, why) {
  fs.writeFileSync(`/proc/${pid}/setgroups`, 'deny')
  fs.writeFileSync(`/proc/${pid}/uid_map`, `0 ${process.geteuid()} 1`)
  fs.writeFileSync(`/proc/${pid}/gid_map`, `0 ${process.getegid()} 1`)
  return { ids: 'single', why }
}

function subordinates({ file, words }, names) {
  const source = subordinateSource()
  if (source !== 'files') return askSubordinates(source, words, names[0])
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n') : []
  const ranges = lines
    .map((line) => line.split(':'))
    .filter(([name]) => names.includes(name))
    .map(([, first, count]) => ({ first, count }))
    .filter(isRange)
  if (ranges.length === 0) throw new Error(`${file} has no IDs for ${names[0]}`)
  return ranges
}

/** Returns where nsswitch.conf(5) says that subordinate IDs are: one source, as newuidmap reads it. */
function subordinateSource() {
  const text = fs.existsSync(NSSWITCH) ? fs.readFileSync(NSSWITCH, 'utf8') : ''
  const match = /^\s*subid\s*:\s*(\S+)/im.exec(text.replace(/#.*/g, ''))
  return match === null ? 'files' : match[1]
}

/** Asks getsubids (shadow 4.9) for IDs that are not in files. It writes lines such as `0: alice 100000 65536`. */
function askSubordinates(source, words, name) {
  const { stdout, stderr, status, error } = spawnSync(findProgram('getsubids'), words.concat(name), {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: WAIT_MS,
  })
  const what = `getsubids ${words.concat(name).join(' ')} (subid: ${source} in ${NSSWITCH})`
  if (error) throw new Error(`${what}: ${error.message}`)
  if (status !== 0) throw new Error(`${what}: ${stderr.trim() || `it ended with status ${status}`}`)
  const ranges = stdout
    .split('\n')
    .map((line) => /^\d+:\s.*\s(\d+)\s+(\d+)\s*$/.exec(line))
    .filter((match) => match !== null)
    .map(([, first, count]) => ({ first, count }))
    .filter(isRange)
  if (ranges.length === 0) throw new Error(`${what}: no IDs for ${name}`)
  return ranges
}

function isRange({ first, count }) {
  return /^\d+$/.test(first) && /^\d+$/.test(count) && Number(count) > 0
}

function runMap(program, pid, own, ranges) {
  let next = 1
  const words = ranges.flatMap(({ first, count }) => {
    const word = [next, first, count]
    next += Number(count)
    return word
  })
  const { status, stderr, error } = spawnSync(program, [pid, 0, own, 1].concat(words).map(String), {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  if (error) throw error
  if (status !== 0) throw new Error(stderr.trim() || `${program} ended with status ${status}`)
}

module.exports = { enter }
