// What this process was started with that is not UTF-8: loaded only where U+FFFD is in it. Plain JavaScript, as loam.cjs.
'use strict'
const fs = require('node:fs')
const { isUtf8 } = require('node:buffer')

/** Returns what is not UTF-8 of the arguments, the settings of the environment and the working directory; undefined if all is. */
exports.findInvalid = function findInvalid(args) {
  const bytesOf = (word) => Buffer.from(word, 'latin1')
  const wordsOf = (name) => fs.readFileSync(`/proc/self/${name}`, 'latin1').split('\0').slice(0, -1)
  const isBroken = (word) => !isUtf8(bytesOf(word))
  // The last words are the arguments, also where each has a mark before it.
  const argument =
    args.length > 0 ? args[wordsOf('cmdline').slice(-args.length).findIndex(isBroken)] : undefined
  if (argument !== undefined) return `the argument ${JSON.stringify(argument)}`
  const setting = wordsOf('environ').find((word) => word.startsWith('LOAM_') && isBroken(word))
  if (setting !== undefined) return `the variable ${setting.split('=')[0]}`
  const directory = fs.readlinkSync('/proc/self/cwd', 'latin1')
  return isBroken(directory)
    ? `the working directory ${JSON.stringify(bytesOf(directory).toString())}`
    : undefined
}
