#!/usr/bin/env sh
':' //; eval "exec node -- \"\$0\" @$(_n=0; for _ do _n=$((_n + 1)); printf ' ".${%d}"' $_n; done)"
// A shell runs the line above, and JavaScript passes over it. Node looks for some of its own options in the whole command line, also behind
// the script's name and behind `--` (--env-file, --experimental-config-file), and runs the code that those files name: words that are
// meant for a container would be code on the host. So no word reaches Node as it was written: each has a dot in front of it.
//
// The client of the daemon: it lets loamd run the command line where one serves the same store, and else runs it by itself. It is one file that
// loads two modules of Node, because that is most of the time of a command that a daemon runs. What is said on the connection is in
// packages/loamd/src/command/messages.ts. Plain JavaScript without new syntax, so that an old Node can read it and say what is wrong.
'use strict'
const fs = require('node:fs')

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 15)) {
  process.stderr.write(
    `loam: needs Node 24.15 or newer, and this is ${process.version}\n` +
      'hint: in a checkout, `npm ci` installs the pinned Node and `npx loam` uses it\n',
  )
  process.exit(1)
}

const isShielded = process.argv[2] === '@'
const args = isShielded ? process.argv.slice(3).map((word) => word.slice(1)) : process.argv.slice(2)
// Started as `node loam.cjs`: what Node has obeyed cannot be undone, but it is not passed over in silence.
const obeyed = isShielded
  ? undefined
  : args.find((arg) => /^--(?:env-file|experimental-.*config-file)/.test(arg))
if (obeyed !== undefined) {
  process.stderr.write(
    `loam: refuse ${JSON.stringify(obeyed)}: Node takes this option for its own, wherever it stands\n` +
      'hint: Start the program itself (loam …), not `node loam.cjs …`.\n',
  )
  process.exit(2)
}

const MODES = ['auto', 'never', 'require']
const EXIT_OUTPUT_CLOSED = 141
const EXIT_INTERRUPTED = 130
/** For a daemon that a service manager starts for the connection, and that recovers a store first. */
const ACCEPT_LIMIT_MS = 30_000
const own = ownWords()
const isJson = own.includes('--json')
const version = JSON.parse(fs.readFileSync(`${__dirname}/../package.json`, 'utf8')).version

if (args.length === 1 && (args[0] === '--version' || args[0] === '-V')) writeOut(`${version}\n`)
else void begin()

function begin() {
  const mode = optionOf('daemon') || process.env.LOAM_DAEMON || 'auto'
  if (!MODES.includes(mode)) {
    const text = `read --daemon: ${JSON.stringify(mode)} is not one of ${MODES.join(', ')}`
    fail({ code: 'USAGE', kind: 'invalid_argument', text, status: 2 })
  }
  if (mode === 'never') return runAlone()
  const socket = `${stateDirectory()}/loamd.sock`
  const otherwise = (why, isTold) => {
    if (mode === 'require')
      return fail({
        code: 'DAEMON_UNAVAILABLE',
        kind: 'unavailable',
        text: `use the daemon at ${socket}: ${why}`,
        hint: 'Start loamd with the same --root and --state, or leave out --daemon require.',
      })
    if (isTold && !isJson) writeErr(`loam: warning: the daemon at ${socket} is not used: ${why}\n`)
    return runAlone()
  }
  const owner = ownerOf(socket)
  if (owner === undefined) return otherwise('there is no such socket', false)
  // The environment goes over it, with all that is secret in there.
  if (owner !== 0 && owner !== process.geteuid()) return otherwise(`it belongs to user ${owner}`, true)
  return ask(socket, otherwise)
}

function ownerOf(path) {
  try {
    return fs.statSync(path).uid
  } catch {
    return undefined
  }
}

/** The words that are meant for Loam itself: for `run`, those in front of the image, as far as that can be known here. */
function ownWords() {
  const end = args.indexOf('--')
  const words = end < 0 ? args : args.slice(0, end)
  const run = words.indexOf('run')
  if (run < 0) return words
  // A word behind an option may be its value.
  const image = words.findIndex(
    (word, index) => index > run && word[0] !== '-' && (index === run + 1 || words[index - 1][0] !== '-'),
  )
  return image < 0 ? words : words.slice(0, image)
}

function optionOf(name) {
  // Of several the last one counts.
  const index = own.findLastIndex((word) => word === `--${name}` || word.startsWith(`--${name}=`))
  if (index < 0) return undefined
  return own[index].includes('=') ? own[index].slice(name.length + 3) : own[index + 1]
}

/** Where the state directory is expected. The daemon reads all settings, and says where it serves another store. */
function stateDirectory() {
  const given = optionOf('state') || process.env.LOAM_STATE || stateOfFile(optionOf('config'))
  if (given) return given
  const isRoot = process.geteuid() === 0
  const { XDG_RUNTIME_DIR, XDG_DATA_HOME, HOME } = process.env
  if (isRoot) return '/run/loam'
  if (XDG_RUNTIME_DIR) return `${XDG_RUNTIME_DIR}/loam`
  return `${XDG_DATA_HOME || `${HOME}/.local/share`}/loam/state`
}

function stateOfFile(file) {
  try {
    const [top] = fs.readFileSync(file || '/etc/loam/config.toml', 'utf8').split(/^\s*\[/m)
    const match = /^\s*state\s*=\s*(?:"([^"\\]*)"|'([^']*)')/m.exec(top)
    return match === null ? undefined : match[1] || match[2]
  } catch {
    return undefined
  }
}

function ask(path, otherwise) {
  const net = require('node:net')
  const socket = net.connect(path)
  let isAccepted = false
  let isOver = false
  let head = ''
  let runtime
  let rest = []
  const say = (message) => socket.write(`${JSON.stringify(message)}\n`)
  const leave = (act) => {
    isOver = true
    for (const name of SIGNALS) process.removeListener(name, onSignal)
    socket.destroy()
    act()
  }
  const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']
  let interruptedBy
  const onSignal = (name) => {
    if (runtime !== undefined) return
    // The first one lets the daemon end the command; somebody who asks again does not want to wait for it.
    if (interruptedBy !== undefined) leave(() => process.exit(EXIT_INTERRUPTED))
    interruptedBy = name
    say({ signal: name })
  }
  socket.on('error', (error) => {
    if (!isOver && !isAccepted) leave(() => otherwise(`connect: ${error.code}`, error.code === 'EACCES'))
  })
  socket.on('connect', () => {
    for (const name of SIGNALS) process.on(name, onSignal)
    socket.write(
      'POST /v1/command HTTP/1.1\r\nHost: loamd\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n\r\n',
    )
    say(request())
  })
  socket.setTimeout(ACCEPT_LIMIT_MS, () => {
    if (!isAccepted) leave(() => otherwise(`it did not answer for ${ACCEPT_LIMIT_MS / 1000} s`, true))
  })
  socket.on('close', () => {
    if (isOver) return
    if (!isAccepted) leave(() => otherwise('it closed the connection', true))
    else if (runtime !== undefined) runtime.onLost()
    else leave(lost)
  })
  socket.on('data', (chunk) => {
    rest.push(chunk)
    if (!isAccepted && !readHead()) return
    if (chunk.includes(10)) readLines()
  })

  function readHead() {
    const bytes = Buffer.concat(rest)
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return false
    head = bytes.toString('latin1', 0, end)
    if (!head.startsWith('HTTP/1.1 101 ')) {
      leave(() => otherwise(`it does not run commands (${head.split('\r\n')[0]})`, true))
      return false
    }
    isAccepted = true
    socket.setTimeout(0)
    rest = [bytes.subarray(end + 4)]
    return true
  }

  function readLines() {
    const lines = Buffer.concat(rest).toString('utf8').split('\n')
    // A character may be in two chunks: what is behind the last line stays bytes.
    const all = Buffer.concat(rest)
    rest = [all.subarray(all.lastIndexOf(10) + 1)]
    for (const line of lines.slice(0, -1)) if (!isOver) onMessage(JSON.parse(line))
  }

  function onMessage(message) {
    if (message.out !== undefined) writeOut(message.out)
    else if (message.err !== undefined) writeErr(message.err)
    else if (message.ask !== undefined) answer(message.ask, say)
    else if (message.run !== undefined) runtime = start(message.run, interruptedBy, say, leave)
    else if (message.self !== undefined)
      leave(() => otherwise(message.self.text, message.self.why === 'version'))
    else if (message.exit !== undefined) leave(() => process.exit(message.exit))
  }
}

function request() {
  const tty = (fd) => fs.fstatSync(fd).isCharacterDevice() && require('node:tty').isatty(fd)
  const terminals = [0, 1, 2].map((fd) => {
    try {
      return tty(fd)
    } catch {
      // It is closed.
      return false
    }
  })
  const { dev, ino } = fs.statSync('/')
  const namespaces = ['mnt', 'net', 'user'].map((name) => fs.readlinkSync(`/proc/self/ns/${name}`))
  const rights = own.includes('run')
    ? /^CapBnd:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))
    : null
  return {
    version,
    args,
    cwd: process.cwd(),
    env: process.env,
    surroundings: [`${dev}:${ino}`].concat(namespaces).join(' '),
    terminals,
    columns: [terminals[1] ? process.stdout.columns : null, terminals[2] ? process.stderr.columns : null],
    capabilities: rights === null ? undefined : rights[1],
  }
}

/** Asks the person at the terminal. */
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

/** Starts the OCI runtime that the daemon has prepared, with the terminal and the signals of this process, and tells its status. */
function start(program, signal, say, leave) {
  const child = require('node:child_process').spawn(program.file, program.args, {
    stdio: 'inherit',
    env: program.env,
  })
  let isAlone = false
  let ended
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'])
    process.on(name, () => child.kill(name))
  const endAlone = (status) => {
    // The daemon has ended, and the container had not: what it leaves is for this process to remove.
    if (program.cleanUp.length === 0) leave(() => process.exit(status))
    else leave(() => cleanUp(program.cleanUp, status))
  }
  const end = (message, status) => {
    ended = status
    if (isAlone) endAlone(status)
    else say(message)
  }
  // It came while the daemon told what to start.
  if (signal !== undefined) child.kill(signal)
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
    [__filename, '@'].concat(['--daemon=never'].concat(words).map((word) => `.${word}`)),
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
    hint: 'Run the command again. What was finished is kept; `loam recover` removes what was not.',
  })
}

function fail({ code, kind, text, hint, status }) {
  if (isJson) writeErr(`${JSON.stringify({ error: { code, kind, message: text, hint, details: {} } })}\n`)
  else writeErr(`loam: ${text}\n${hint === undefined ? '' : `hint: ${hint}\n`}`)
  process.exit(status || (own.includes('run') ? 125 : 1))
}

function writeOut(text) {
  write(1, text, (error) => {
    if (error.code === 'EPIPE') process.exit(EXIT_OUTPUT_CLOSED)
    const why = error.code === 'ENOSPC' ? 'NO_SPACE' : 'SYSTEM'
    fail({
      code: why,
      kind: why === 'NO_SPACE' ? 'resource_exhausted' : 'internal',
      text: `write standard output: ${error.message}`,
    })
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
  const source = `${__dirname}/../src/cli/main.ts`
  const isCheckout = fs.existsSync(source)
  // Sources without their types are kept for the next time. In the checkout's own folder: Node's default lies where other
  // users may write, and what is found there would be run.
  if (isCheckout)
    require('node:module').enableCompileCache(`${__dirname}/../../../node_modules/.cache/compiled`)
  const { main } = await import(isCheckout ? source : '../dist/main.js')
  await main(args, version)
}
