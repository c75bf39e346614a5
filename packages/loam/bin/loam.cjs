#!/usr/bin/env sh
':' //; _d=$(readlink -f -- "$0"); _d=${_d%/*/*}; _node=node; for _f in "$_d"/node_modules/node-linux-*/bin/node "$_d"/../../node_modules/node-linux-*/bin/node; do if [ -x "$_f" ] && { [ -e /lib64/ld-linux-x86-64.so.2 ] || [ -e /lib/ld-linux-aarch64.so.1 ]; }; then _node=$_f; break; fi; done; command -v "$_node" >/dev/null || { echo "loam: needs Node 24.15 or newer, and none is installed" >&2; echo "hint: Install it again without --omit=optional: then it brings Node (npm install --global loamfs)." >&2; exit 127; }; eval "exec \"\$_node\" -- \"\$0\" @$(_n=0; for _ do _n=$((_n + 1)); printf ' ".${%d}"' $_n; done)"
// A shell runs the line above, and JavaScript passes over it. It takes the Node that the package brings, so that the machine may have an old one
// or none; without it, or where the C library is not glibc, the one that is installed. Node looks for some of its own options in the whole command line, also behind
// the script's name and behind `--` (--env-file, --experimental-config-file), and runs the code that those files name: words that are
// meant for a container would be code on the host. So no word reaches Node as it was written: each has a dot in front of it.
//
// The client of the daemon: loamd runs the command line if one serves the same store; otherwise this process does. It is one file that
// loads two modules of Node, because loading takes most of the time of a command that a daemon runs. The messages of the connection are in
// packages/loamd/src/command/messages.ts. Plain JavaScript without new syntax, so that an old Node can read it and report its version.
'use strict'
const fs = require('node:fs')

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 15)) {
  process.stderr.write(
    `loam: needs Node 24.15 or newer, and this is ${process.version}\nhint: Install it again without --omit=optional: then it brings Node (npm install --global loamfs; in a checkout: npm ci).\n`,
  )
  process.exit(1)
}

// Set where all of this is one executable (scripts/single-file).
const executable = globalThis[Symbol.for('loam.executable')]
const self = executable === undefined ? ['--', __filename, '@'] : ['@loam', executable.program]
/** Returns the words with which Node, or the executable, starts a command line of this program. */
const ownWords = (words) => self.concat(words.map((word) => `.${word}`))
const isShielded = process.argv[2] === '@'
const args = isShielded ? process.argv.slice(3).map((word) => word.slice(1)) : process.argv.slice(2)
// Started as `node loam.cjs`: options that Node has obeyed cannot be undone, so they are reported.
const obeyed = isShielded
  ? undefined
  : args.find((arg) => /^--(?:env-file|experimental-.*config-file)/.test(arg))
if (obeyed !== undefined) {
  process.stderr.write(
    `loam: refuse ${JSON.stringify(obeyed)}: Node takes this option for its own, wherever it stands\nhint: Start the program itself (loam …), not \`node loam.cjs …\`.\n`,
  )
  process.exit(2)
}

/** Commands that the daemon never runs. */
const ALONE = ['events', 'lazyd', 'login', 'logout']
const MODES = ['auto', 'never', 'require']
const EXIT_OUTPUT_CLOSED = 141
const EXIT_INTERRUPTED = 130
/** For a daemon that a service manager starts for the connection, and that recovers a store first. */
const ACCEPT_LIMIT_MS = 30_000
/** Owner of files of users that this namespace does not know (/proc/sys/kernel/overflowuid). */
const NO_USER = 65_534
/** Options of `run` and of every command that take no value, without dashes; a test compares them with cli/. */
const FLAGS =
  'read_only pull lazy eager keep rm detach d interactive i tty t json quiet q help h version V docker_ignore_runtime size_reservation upperdir_label csi_controller switch_user enforce_container_disk_quota'
/** Commands that read no store. */
const WITHOUT_STORE = [undefined].concat(
  'help config events status lazyd login logout tags completion'.split(' '),
)
const { own, command, isRun } = findOwnWords()
const isJson = own.includes('--json')
const { read } = executable || { read: (name) => fs.readFileSync(`${__dirname}/../${name}`, 'utf8') }
const { version } = JSON.parse(read('package.json'))

if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) writeOut(`${version}\n`)
else void begin()

async function begin() {
  // Node shows bytes that are not UTF-8 as this character. A shell has the working directory in its environment.
  const given = args.concat(Object.values(process.env))
  if (given.some((text) => text.includes('\uFFFD'))) require('./broken-text.cjs').check(args, fail)
  const mode = optionOf('daemon') || process.env.LOAM_DAEMON || 'auto'
  if (!MODES.includes(mode)) {
    const text = `read --daemon: ${JSON.stringify(mode)} is not one of ${MODES.join(', ')}`
    fail({ code: 'USAGE', kind: 'invalid_argument', text, status: 2 })
  }
  await enterNamespace()
  // `events` reads from the daemon by itself, at its own pace; passwords do not pass through it.
  if (mode === 'never' || ALONE.indexOf(command) >= 0) return runAlone()
  const socket = `${stateDirectory()}/loamd.sock`
  const otherwise = (text, why) => {
    if (mode === 'require')
      return fail({
        code: 'DAEMON_UNAVAILABLE',
        kind: 'unavailable',
        text: `use the daemon at ${socket}: ${text}`,
        hint: ['absent', 'store'].includes(why)
          ? 'Start loamd with the same --root and --state, or leave out --daemon require.'
          : 'Leave out --daemon require: then this process runs the command.',
      })
    if (['version', 'unusable'].includes(why) && !isJson)
      writeErr(`loam: warning: the daemon at ${socket} is not used: ${text}\n`)
    return runAlone()
  }
  let path
  let asked
  try {
    // From here on no other user can replace the directory of a symlink.
    path = fs.realpathSync.native(socket)
  } catch ({ code }) {
    if (code === 'ENOENT' || code === 'ENOTDIR') return otherwise('there is no such socket', 'absent')
    return otherwise(`its socket is not for this user (${code})`, 'unusable')
  }
  // The environment is sent over it, with the secrets in it, and the answer names the program to start.
  const { stranger, isKnown } = findStranger(path)
  if (stranger !== undefined) return otherwise(stranger, isKnown ? 'unusable' : undefined)
  try {
    asked = request()
  } catch (error) {
    return otherwise(`tell what this process is: ${error.message}`)
  }
  return ask(path, asked, otherwise)
}

/** A user who is not root works in a user namespace where that is possible; this returns where it is not, and inside of it. */
async function enterNamespace() {
  if (process.geteuid() === 0 || readRootless() !== undefined) return
  if (process.env.LOAM_USER_NAMESPACE === 'never' || WITHOUT_STORE.includes(command)) return
  const state = require('node:path').resolve(stateDirectory())
  let daemon
  try {
    const path = fs.realpathSync.native(`${state}/loamd.sock`)
    if (findStranger(path).stranger === undefined) daemon = path
  } catch {
    // There is none.
  }
  await require('./namespace.cjs').enter({ state, daemon, file: process.execPath, args: ownWords(args) })
}

/**
 * Returns how the user who is not root works, as namespace.cjs left it; undefined where it says nothing of this process, which may have got the
 * environment of another user.
 */
function readRootless() {
  try {
    const said = JSON.parse(process.env.LOAM_ROOTLESS)
    const [map] = fs.readFileSync('/proc/self/uid_map', 'utf8').trim().split('\n')
    const [first, outside] = map.trim().split(/\s+/).map(Number)
    // Root of the machine never works so, whoever set this variable.
    const isInside = process.geteuid() === 0 && first === 0 && said.uid !== 0 && outside === said.uid
    return isInside || process.geteuid() === said.uid ? said : undefined
  } catch {
    return undefined
  }
}

/** Returns the user, other than root and this user, who owns the socket or could replace it. */
function findStranger(socket) {
  const rootless = readRootless()
  // It was found to be safe before this process entered its user namespace, where most owners are unknown.
  if (rootless !== undefined && process.geteuid() === 0 && socket === rootless.daemon) return {}
  for (let path = socket; ; path = path.slice(0, path.lastIndexOf('/')) || '/') {
    const { uid, gid, mode } = fs.lstatSync(path)
    if (uid !== 0 && uid !== process.geteuid())
      return { stranger: `${path} belongs to user ${uid}`, isKnown: uid !== NO_USER }
    // In a directory like /tmp no user can remove another's files. A user's own group has only that user, or chosen ones.
    const isOpen = (mode & 0o2) !== 0 || ((mode & 0o20) !== 0 && gid !== 0 && gid !== process.getegid())
    if (path !== socket && isOpen && (mode & 0o1000) === 0)
      return { stranger: `other users may write to ${path}`, isKnown: true }
    if (path === '/') return {}
  }
}

/** Finds the words for Loam itself: for `run` and `exec`, those before the image or the container. */
function findOwnWords() {
  const dashes = args.indexOf('--')
  const words = dashes < 0 ? args : args.slice(0, dashes)
  let index = nextWord(words, 0, false)
  if (words[index] === 'container' && ['run', 'exec'].includes(words[index + 1])) index += 1
  const name = words[index]
  if (name !== 'run' && name !== 'exec' && name !== 'unshare')
    return { own: words, command: name, isRun: false }
  const end = nextWord(words, index + 1, name === 'run')
  return { own: words.slice(0, end), command: name, isRun: name !== 'unshare' }
}

/** Returns the index of the next word that is neither an option nor the value of one. */
function nextWord(words, from, ofRun) {
  let index = from
  while (index < words.length && words[index][0] === '-') index += takesNext(words[index], ofRun) ? 2 : 1
  return index
}

function takesNext(word, ofRun) {
  if (word.includes('=')) return false
  const flags = FLAGS.split(' ')
  if (word[1] !== '-') {
    // Short options may be one word, and a value may follow in the same: -it, -itu root, -uroot. For `run`, -h is the host name.
    const letters = word.slice(1).split('')
    const first = letters.findIndex((letter) => !flags.includes(letter) || (ofRun && letter === 'h'))
    return first >= 0 && first === letters.length - 1
  }
  return !flags.includes(word.replace(/^-+(?:no[-_])?/, '').replaceAll('-', '_'))
}

/** A name may have dashes in place of underscores. The last one of several values counts. */
function optionOf(name) {
  const nameOf = (word) => word.slice(2).replace(/=.*/s, '').replaceAll('-', '_')
  const index = own.findLastIndex((word) => word.startsWith('--') && nameOf(word) === name)
  if (index < 0) return undefined
  return own[index].includes('=') ? own[index].slice(own[index].indexOf('=') + 1) : own[index + 1]
}

/** Returns the expected state directory. The daemon reads all settings, and reports if it serves another store. */
function stateDirectory() {
  const settings = readSettings(optionOf('config'))
  const setting = (name) => optionOf(name) || process.env[`LOAM_${name.toUpperCase()}`] || settings(name)
  const state = setting('state')
  if (state) return state
  const runtimeDir = setting('runtime_dir')
  if (runtimeDir) return `${runtimeDir}/loam`
  const { XDG_RUNTIME_DIR, XDG_DATA_HOME, HOME } = process.env
  const home = XDG_DATA_HOME === undefined && HOME !== undefined ? `${HOME}/.local/share` : XDG_DATA_HOME
  const isAbsolute = (path) => path !== undefined && path[0] === '/'
  // A relative path would depend on the working directory, which another user may own.
  if ((process.geteuid() === 0 && readRootless() === undefined) || !isAbsolute(home)) return '/run/loam'
  return isAbsolute(XDG_RUNTIME_DIR) ? `${XDG_RUNTIME_DIR}/loam` : `${home}/loam/state`
}

/** Returns the texts at the top of a configuration file, by name. */
function readSettings(file) {
  let top = ''
  try {
    const path = file || '/etc/loam/config.toml'
    // Reading a pipe would wait, and a device has no end.
    if (fs.statSync(path).isFile()) [top] = fs.readFileSync(path, 'utf8').split(/^\s*\[/m)
  } catch {
    // The process that runs the command reports the error.
  }
  return (name) => {
    const key = name.replace('_', '[-_]')
    const match = new RegExp(`^\\s*(["']?)${key}\\1\\s*=\\s*(?:"([^"\\\\]*)"|'([^']*)')`, 'm').exec(top)
    return match === null ? undefined : match[2] || match[3]
  }
}

/** Asks whether the daemon runs commands, and lets it run this one. */
function ask(path, asked, otherwise) {
  const socket = require('node:net').connect(path)
  let bytes = Buffer.alloc(0)
  const stopAsking = () => {
    socket.setTimeout(0)
    for (const name of ['data', 'timeout', 'close', 'error']) socket.removeAllListeners(name)
    socket.on('error', () => undefined)
  }
  const decline = (text, why = 'unusable') => {
    stopAsking()
    socket.destroy()
    otherwise(text, why)
  }
  socket.on('error', ({ code }) => decline(`connect: ${code}`, code === 'EACCES' ? 'unusable' : 'absent'))
  socket.on('close', () => decline('it closed the connection'))
  socket.setTimeout(ACCEPT_LIMIT_MS, () => decline(`it did not answer for ${ACCEPT_LIMIT_MS / 1000} s`))
  socket.on('connect', () =>
    socket.write(
      'POST /v1/command HTTP/1.1\r\nHost: loamd\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n\r\n',
    ),
  )
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk])
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return
    const status = bytes.toString('latin1', 0, bytes.indexOf('\r\n'))
    if (!status.startsWith('HTTP/1.1 101 ')) {
      decline(`it does not run commands (${status})`)
      return
    }
    stopAsking()
    converse(socket, bytes.subarray(end + 4), otherwise).say(asked)
  })
}

/** Follows the daemon's messages. Nothing is sent before the daemon accepts the command: if it does not in time, this process runs it, and no other may. */
function converse(socket, first, otherwise) {
  let isOver = false
  let runtime
  let interruptedBy
  let rest = [first]
  const say = (message) => socket.write(`${JSON.stringify(message)}\n`)
  const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']
  const ignoreSignals = () => {
    for (const name of SIGNALS) process.removeListener(name, onSignal)
  }
  const leave = (act) => {
    isOver = true
    ignoreSignals()
    socket.destroy()
    act()
  }
  const onSignal = (name) => {
    if (runtime !== undefined) return
    // The first one lets the daemon end the command; a user who repeats it does not want to wait.
    if (interruptedBy !== undefined) leave(() => process.exit(EXIT_INTERRUPTED))
    interruptedBy = name
    say({ signal: name })
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  // Node has read the new size by then, if the stream is a terminal.
  process.on('SIGWINCH', () => {
    if (!isOver && runtime === undefined && process.stderr.isTTY)
      say({ size: [process.stderr.columns, process.stderr.rows] })
  })
  socket.on('close', () => {
    if (isOver) return
    if (runtime !== undefined) runtime.onLost()
    else leave(lost)
  })
  socket.on('data', (chunk) => {
    rest.push(chunk)
    if (chunk.includes(10)) readLines()
  })
  return { say }

  function readLines() {
    const all = Buffer.concat(rest)
    const end = all.lastIndexOf(10)
    rest = [all.subarray(end + 1)]
    for (const line of all.toString('utf8', 0, end).split('\n')) if (!isOver) onMessage(JSON.parse(line))
  }

  function onMessage(message) {
    if (message.out !== undefined) writeOut(message.out)
    else if (message.outBytes !== undefined) writeOut(Buffer.from(message.outBytes, 'base64'))
    else if (message.err !== undefined) writeErr(message.err)
    else if (message.ask !== undefined) answer(message.ask, say)
    else if (message.run !== undefined)
      runtime = start(message.run, { interruptedBy, say, leave, ignoreSignals })
    else if (message.self !== undefined) leave(() => otherwise(message.self.text, message.self.why))
    else if (message.exit !== undefined) leave(() => process.exit(message.exit))
  }
}

function request() {
  const terminals = [0, 1, 2].map((fd) => {
    try {
      return fs.fstatSync(fd).isCharacterDevice() && require('node:tty').isatty(fd)
    } catch {
      // It is closed.
      return false
    }
  })
  const { dev, ino } = fs.statSync('/')
  const namespaces = ['mnt', 'net', 'user'].map((name) => fs.readlinkSync(`/proc/self/ns/${name}`))
  const rights = isRun ? /^CapBnd:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8')) : null
  return {
    version,
    args,
    cwd: process.cwd(),
    env: process.env,
    surroundings: [`${dev}:${ino}`].concat(namespaces).join(' '),
    terminals,
    columns: [terminals[1] ? process.stdout.columns : null, terminals[2] ? process.stderr.columns : null],
    rows: [terminals[1] ? process.stdout.rows : null, terminals[2] ? process.stderr.rows : null],
    capabilities: rights === null ? undefined : rights[1],
  }
}

/** Asks the user at the terminal. */
function answer(question, say) {
  const terminal = require('node:readline').createInterface({ input: process.stdin, output: process.stderr })
  let line = ''
  terminal.on('close', () => say({ answer: line }))
  terminal.on('SIGINT', () => process.emit('SIGINT', 'SIGINT'))
  terminal.question(question, (typed) => {
    line = typed
    terminal.close()
  })
}

/** Starts the OCI runtime that the daemon has prepared, with the terminal and the signals of this process, and sends its status. */
function start(program, { interruptedBy, say, leave, ignoreSignals }) {
  const child = require('node:child_process').spawn(program.file, program.args, {
    stdio: 'inherit',
    env: program.env,
  })
  let isAlone = false
  let ended
  const PASSED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']
  const pass = (name) => child.kill(name)
  for (const name of PASSED) process.on(name, pass)
  const endAlone = (status) => {
    // The daemon has ended before the container: this process removes what it leaves.
    if (program.cleanUp.length === 0) leave(() => process.exit(status))
    else leave(() => cleanUp(program.cleanUp, status))
  }
  const end = (message, status) => {
    ended = status
    // They were for the container, which has ended: from here on they end this process.
    for (const name of PASSED) process.removeListener(name, pass)
    ignoreSignals()
    if (isAlone) endAlone(status)
    else say(message)
  }
  // It arrived while the daemon named the program.
  if (interruptedBy !== undefined) child.kill(interruptedBy)
  child.on('error', (error) => end({ failed: error.message }, 125))
  child.on('exit', (status, endedBy) => {
    const all = status === null ? 128 + require('node:os').constants.signals[endedBy] : status
    end({ status: all }, all)
  })
  return {
    onLost: () => {
      isAlone = true
      if (ended !== undefined) endAlone(ended)
    },
  }
}

function cleanUp(words, status) {
  const { status: cleaned } = require('node:child_process').spawnSync(
    process.execPath,
    ownWords(['--daemon=never'].concat(words)),
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  writeErr(
    `loam: warning: the daemon ended while the container ran${cleaned === 0 ? '' : '; `loam recover` cleans up'}\n`,
  )
  process.exit(status)
}

function lost() {
  fail({
    code: 'DAEMON_LOST',
    kind: 'unavailable',
    text: 'run the command by the daemon: it ended before the command did',
    hint: 'Run the command again. Completed work is kept; `loam recover` removes unfinished work.',
  })
}

function fail({ code, kind, text, hint, details = {}, status }) {
  if (isJson) writeErr(`${JSON.stringify({ error: { code, kind, message: text, hint, details } })}\n`)
  else writeErr(`loam: ${text}\n${hint === undefined ? '' : `hint: ${hint}\n`}`)
  process.exit(status || (isRun ? 125 : 1))
}

function writeOut(text) {
  write(1, text, (error) => {
    if (error.code === 'EPIPE') process.exit(EXIT_OUTPUT_CLOSED)
    fail(require('./write-error.cjs').describeWriteError(error))
  })
}

function writeErr(text) {
  write(2, text, () => undefined)
}

/** Writes all of a text, and waits while a pipe is full. */
function write(descriptor, text, onError) {
  const bytes = Buffer.from(text)
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(descriptor, bytes, done)
    } catch (error) {
      if (error.code !== 'EAGAIN') return onError(error)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
}

/** Runs the command line in this process. */
async function runAlone() {
  // A checkout runs its sources, so that nobody debugs a stale build; a package has none and runs dist.
  // The handler of partial layers stays, and loads nothing of the command line.
  const [folder, bundle] = command === 'lazyd' ? ['lazy', 'lazyd'] : ['cli', 'main']
  if (executable !== undefined) return executable.load(`${bundle}.js`).main(args, version)
  const source = `${__dirname}/../src/${folder}/main.ts`
  const isCheckout = fs.existsSync(source)
  keepCompiled(`${__dirname}/${isCheckout ? '../../../node_modules/.cache/compiled' : '../.compiled'}`)
  const { main } = await import(isCheckout ? source : `../dist/${bundle}.js`)
  await main(args, version)
}

/**
 * Keeps what V8 has compiled beside the code itself, where only those who may change the code can write: files in Node's default directory
 * would be run, too, and other users may write to that. A package that belongs to another user is read, and not written to.
 */
function keepCompiled(folder) {
  const mask = process.umask(0o022)
  require('node:module').enableCompileCache(folder)
  process.umask(mask)
}
