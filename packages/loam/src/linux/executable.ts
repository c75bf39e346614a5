/*
 * Loam without Node: scripts/single-file builds an executable of Node that contains the modules of the program, its threads and koffi's
 * binary. Its first script, scripts/single-file/entry.cjs, sets this object in each thread. Everywhere else the program is files.
 */
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import { Worker, type WorkerOptions } from 'node:worker_threads'

/** The contents of the executable. */
export interface Executable {
  /** Path of the file that users start: a script that starts the executable. */
  readonly program: string
  /** Loads a module by the name of its file, or koffi's binary as `koffi`. */
  readonly load: (name: string) => unknown
  readonly read: (name: string) => Uint8Array
  /** Returns the script of a thread that runs a module. */
  readonly threadScript: (name: string) => string
}

const KEY = Symbol.for('loam.executable')

/** Returns the executable that this process runs; undefined where the program is files. */
export function ownExecutable(): Executable | undefined {
  return Reflect.get(globalThis, KEY) as Executable | undefined
}

/** Starts a thread whose module is the given file of the program. */
export function startThread(file: URL, options: WorkerOptions): Worker {
  const executable = ownExecutable()
  if (executable === undefined) return new Worker(file, options)
  return new Worker(executable.threadScript(basename(file.pathname)), { ...options, eval: true })
}

/** Loads a package that is rarely used, now and not with the importing module. `from` is the address of that module. */
export function loadPackage(name: string, from: string): unknown {
  return ownExecutable()?.load(`${name}.js`) ?? createRequire(from)(name)
}

/** Returns the words that start the executable again as `loam`, with its own words behind. */
export function executableWords({ program }: Executable, words: readonly string[]): string[] {
  return ['@loam', program, ...words.map((word) => `.${word}`)]
}
