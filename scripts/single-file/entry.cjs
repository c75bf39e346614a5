// The first script of the executable, which is both programs. See packages/loam/src/linux/executable.ts.
'use strict'

// Runs in the main thread, and as the first part of each thread's script. `binary` is the descriptor of koffi's binary, if that is open.
function setExecutable(given) {
  let binary = given
  const { getAsset, getRawAsset } = require('node:sea')
  const { Script } = require('node:vm')
  const fs = require('node:fs')
  const modules = new Map()
  // Files without names: nobody can replace them before they are loaded. A directory may be mounted with noexec.
  const FOLDERS = ['/dev/shm', process.env.XDG_RUNTIME_DIR, '/tmp', '/var/tmp', '/run', process.env.HOME]
  const UNNAMED = 0o20200000 | fs.constants.O_RDWR

  function load(name) {
    const known = modules.get(name)
    if (known !== undefined) return known.exports
    const module = { exports: {} }
    modules.set(name, module)
    if (name === 'koffi') loadBinary(module)
    else runModule(name, module)
    return module.exports
  }

  function runModule(name, module) {
    const script = new Script(
      `(function (exports, require, module, __filename, __dirname) {${getAsset(name, 'utf8')}\n})`,
      {
        filename: `/loam/${name}`,
      },
    )
    const own = (id) => (id.startsWith('./') ? load(id.slice(2)) : require(id))
    script.runInThisContext()(module.exports, own, module, `/loam/${name}`, '/loam')
  }

  function loadBinary(module) {
    if (binary !== undefined) return process.dlopen(module, `/proc/self/fd/${binary}`)
    const reasons = []
    for (const folder of FOLDERS) {
      if (!folder) continue
      try {
        const descriptor = fs.openSync(folder, UNNAMED, 0o700)
        fs.writeFileSync(descriptor, new Uint8Array(getRawAsset('koffi')))
        process.dlopen(module, `/proc/self/fd/${descriptor}`)
        binary = descriptor
        return undefined
      } catch (error) {
        reasons.push(`${folder}: ${error.message}`)
      }
    }
    throw new Error(`no directory of a file system that may be executed from: ${reasons.join('; ')}`)
  }

  globalThis[Symbol.for('loam.executable')] = {
    program: process.argv[1],
    load,
    read: (name) => Buffer.from(getRawAsset(name)),
    threadScript: (name) =>
      `(${String(setExecutable)})(${binary})\nglobalThis[Symbol.for('loam.executable')].load(${JSON.stringify(name)})`,
  }
}

// The script around this executable puts a dot in front of each word, as bin/loam.cjs says why: `@loam PROGRAM .WORD …`, or `@loamd PROGRAM .WORD …`.
const [marker, program, ...shielded] = process.argv.slice(2)
if (marker !== '@loam' && marker !== '@loamd') {
  process.stderr.write(
    'loam: this file is started by the script around it, which hides the words from Node\n',
  )
  process.exit(2)
}
const words = shielded.map((word) => word.slice(1))
process.argv = [process.execPath, program, ...(marker === '@loamd' ? words : ['@', ...shielded])]
setExecutable(undefined)
const { load } = globalThis[Symbol.for('loam.executable')]
if (marker === '@loamd') load('loamd.js').main(words)
else load('loam.cjs')
