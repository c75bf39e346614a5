// Text that this process was started with, and that is not UTF-8: Node has replaced parts of it, so that it may name another file. loam.cjs loads
// this where it finds the character that Node puts in their place.
'use strict'
const { isUtf8 } = require('node:buffer')
const fs = require('node:fs')

/** Settings, and variables whose values become names of files. */
const USED =
  /^(?:LOAM_\w+|XDG_(?:DATA|CONFIG)_HOME|XDG_RUNTIME_DIR|HOME|DOCKER_CONFIG|REGISTRY_AUTH_FILE|HADOOP_HOME)=/

/** Calls `fail` with the error for an argument or a variable that Loam uses which is not UTF-8, or a working directory that another one would be taken for. */
exports.check = (args, fail) => {
  const broken = find(args)
  if (broken === undefined) return
  fail({ code: 'USAGE', kind: 'invalid_argument', text: `read ${broken}: it is not UTF-8`, status: 2 })
}

function find(args) {
  // Its last words are those of the command.
  const index = args.length === 0 ? -1 : wordsOf('cmdline').slice(-args.length).findIndex(isBroken)
  if (index >= 0) return `the argument ${JSON.stringify(args[index])}`
  const variable = wordsOf('environ').find((word) => USED.test(word) && isBroken(word))
  if (variable !== undefined) return `the variable ${variable.split('=')[0]}`
  return isElsewhere() ? 'the working directory' : undefined
}

/** Whether the working directory, as Node has it, is another one. Mostly there is none of that name, and relative paths fail. */
function isElsewhere() {
  try {
    const [real, shown] = [fs.statSync('.'), fs.statSync(process.cwd())]
    return real.ino !== shown.ino || real.dev !== shown.dev
  } catch {
    return false
  }
}

/** Returns the words of a file of /proc, one character for each byte. */
function wordsOf(name) {
  return fs.readFileSync(`/proc/self/${name}`, 'latin1').split('\0').slice(0, -1)
}

function isBroken(word) {
  return !isUtf8(Buffer.from(word, 'latin1'))
}
