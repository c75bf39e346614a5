// A simulated machine: it has its own table of system calls, its own clock and its own order of events. Processes on it may be killed at any
// call, calls may fail, and a power cut removes data that was not flushed. Files are in a directory, which should be in memory.
import { AsyncLocalStorage } from 'node:async_hooks'
import crypto from 'node:crypto'
import fs from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import timers from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Random } from '../faults/random.ts'

/** The fault of a process: at one of its changing calls, or from there on. */
export interface Fault {
  readonly at: number
  readonly how: 'kill' | 'EIO' | 'ENOSPC'
  readonly isLasting: boolean
}

/** One process on the machine. */
export class Process {
  readonly fds = new Set<number>()
  readonly #fault: Fault | undefined
  readonly #onDeath: (() => void)[] = []
  #calls = 0
  isDead = false

  constructor(fault?: Fault) {
    this.#fault = fault
  }

  /** Actions of the kernel for a process that has ended. */
  atDeath(act: () => void): void {
    this.#onDeath.push(act)
  }

  kill(): void {
    this.isDead = true
    for (const act of this.#onDeath) act()
    for (const fd of this.fds) real.closeSync(fd)
    this.fds.clear()
  }

  /** A changing call begins. @throws its fault */
  begin(call: string): void {
    if (this.isDead) throw systemError('ESRCH', call)
    this.#calls += 1
    const fault = this.#fault
    if (fault === undefined || this.#calls < fault.at || (this.#calls > fault.at && !fault.isLasting)) return
    if (fault.how === 'kill') {
      this.kill()
      throw systemError('ESRCH', call)
    }
    throw systemError(fault.how, call)
  }
}

const ERRNO = { ESRCH: -3, EIO: -5, ENOSPC: -28 } as const

function systemError(code: keyof typeof ERRNO, syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: simulated, ${syscall}`), { code, errno: ERRNO[code], syscall })
}

const real = { ...fs }
const CHANGING = [
  'writeSync',
  'writeFileSync',
  'renameSync',
  'unlinkSync',
  'mkdirSync',
  'rmdirSync',
  'fsyncSync',
  'ftruncateSync',
  'linkSync',
  'symlinkSync',
  'chmodSync',
  'chownSync',
] as const

type Table = Record<string, (...args: unknown[]) => unknown>

/** The machine. Only one at a time; code outside of its processes is not affected. */
export class Machine {
  readonly #processes = new AsyncLocalStorage<Process>()
  /** Inodes with data that were not flushed. */
  readonly #dirty = new Set<number>()
  /** How to undo changes of names that were not flushed, the oldest first. */
  #names: (() => void)[] = []
  #graves = 0
  nowMs = Date.UTC(2030, 0, 1)
  random: Random
  folder = ''

  constructor(random: Random) {
    this.random = random
  }

  /** Restarts with another directory. */
  reset(random: Random, folder: string): void {
    this.random = random
    this.folder = folder
    this.#dirty.clear()
    this.#names = []
    fs.mkdirSync(join(folder, 'graves'), { recursive: true })
  }

  async run<T>(process: Process, act: () => Promise<T>): Promise<T> {
    return this.#processes.run(process, act)
  }

  /** Gives other processes a turn. */
  async turn(): Promise<void> {
    for (let turns = this.random.below(3); turns >= 0; turns -= 1) {
      const { promise, resolve } = Promise.withResolvers<void>()
      setImmediate(resolve)
      await promise
    }
  }

  /** Replaces the system calls, for modules that are loaded from now on. */
  install(libc: () => object): void {
    const table = fs as unknown as Table
    for (const name of CHANGING) table[name] = this.#guarded(name, real[name] as Table[string])
    table['openSync'] = this.#guardedOpen()
    table['closeSync'] = (fd) => {
      this.#close(fd as number)
    }
    const writev = (fd: number, buffers: Buffer[], position: number) => {
      const bytesWritten = this.#call('writev', [fd], () => real.writevSync(fd, buffers, position))
      return { bytesWritten, buffers }
    }
    table['writev'] = withPromise(async (...args: Parameters<typeof writev>) => {
      await this.turn()
      return writev(...args)
    })
    for (const name of ['fsync', 'fdatasync']) {
      table[name] = withPromise(async (fd: number) => {
        await this.turn()
        fs.fsyncSync(fd)
      })
    }
    ;(promises as unknown as Table)['rm'] = async (path: unknown) => {
      await this.turn()
      this.#call('rm', [], () => {
        real.rmSync(path as string, { recursive: true, force: true })
      })
    }
    for (const [name, remove] of [
      ['unlink', real.unlinkSync],
      ['rmdir', real.rmdirSync],
    ] as const) {
      // By its path, or of a name in a directory that is open.
      ;(promises as unknown as Table)[name] = async (path: unknown) => {
        await this.turn()
        const [, dirFd, entry = ''] = /^\/proc\/self\/fd\/(\d+)\/(.*)$/s.exec(String(path)) ?? []
        const act = () => {
          remove(String(path))
        }
        if (dirFd === undefined) this.#call(`${name}Sync`, [path], act)
        else this.#call('unlinkat', [Number(dirFd), Buffer.from(entry)], act)
      }
    }
    ;(promises as unknown as Table)['mkdir'] = async (path: unknown, options: unknown) => {
      await this.turn()
      this.#call('mkdirSync', [path, options], () => {
        real.mkdirSync(path as string, options as fs.MakeDirectoryOptions)
      })
    }
    ;(promises as unknown as Table)['open'] = async (path: unknown, flags: unknown) => {
      await this.turn()
      const fd = fs.openSync(path as string, flags as string)
      return {
        sync: async () => {
          await this.turn()
          fs.fsyncSync(fd)
        },
        close: async () => {
          fs.closeSync(fd)
        },
      }
    }
    ;(timers as unknown as Table)['setTimeout'] = async (ms: unknown) => {
      this.nowMs += Number(ms)
      await this.turn()
    }
    ;(crypto as unknown as Table)['randomUUID'] = () => {
      const part = (digits: number) =>
        Array.from({ length: digits }, () => this.random.below(16).toString(16)).join('')
      return [8, 4, 4, 4, 12].map(part).join('-')
    }
    Date.now = () => (this.#processes.getStore() === undefined ? performance.timeOrigin : this.nowMs)
    syncBuiltinESMExports()
    const calls = libc() as Table
    for (const name of ['openat', 'openat2'] as const) {
      const call = calls[name] as Table[string]
      calls[name] = (...args) => {
        const process = this.#processes.getStore()
        if (process?.isDead === true) throw systemError('ESRCH', name)
        const fd = call(...args)
        process?.fds.add(fd as number)
        return fd
      }
    }
    for (const name of ['unlinkat', 'syncfs'] as const) {
      const call = calls[name] as Table[string]
      calls[name] = this.#guarded(name, call)
    }
  }

  #guarded(name: string, call: Table[string]): Table[string] {
    return (...args) => this.#call(name, args, () => call(...args))
  }

  #call<T>(name: string, args: readonly unknown[], act: () => T): T {
    const process = this.#processes.getStore()
    if (process === undefined) return act()
    process.begin(name)
    const undo = this.#prepareUndo(name, args)
    const result = act()
    if (undo !== undefined) this.#names.push(undo)
    this.#noteData(name, args)
    return result
  }

  #guardedOpen(): Table[string] {
    return (...args) => {
      const process = this.#processes.getStore()
      if (process === undefined) return real.openSync(...(args as Parameters<typeof real.openSync>))
      if (process.isDead) throw systemError('ESRCH', 'open')
      const path = String(args[0])
      const isNew = !fs.existsSync(path)
      // Opening changes something only if it creates a file.
      if (isNew) process.begin('open')
      const fd = real.openSync(...(args as Parameters<typeof real.openSync>))
      process.fds.add(fd)
      if (isNew) this.#names.push(() => fs.rmSync(path, { force: true }))
      return fd
    }
  }

  #close(fd: number): void {
    const process = this.#processes.getStore()
    if (process === undefined) real.closeSync(fd)
    else if (process.fds.delete(fd)) real.closeSync(fd)
    else if (!process.isDead) throw new Error(`descriptor ${fd} is not this process's`)
  }

  /** Returns how to undo a change of names; undefined for a call that changes none. */
  #prepareUndo(name: string, args: readonly unknown[]): (() => void) | undefined {
    const [first, second] = args.map(String)
    if (first === undefined) return undefined
    if (name === 'mkdirSync')
      return fs.existsSync(first) ? undefined : () => fs.rmSync(first, { recursive: true, force: true })
    if (name === 'renameSync' && second !== undefined) {
      const kept = this.#keep(second)
      return () => {
        if (fs.existsSync(second)) fs.renameSync(second, first)
        kept?.()
      }
    }
    if (name === 'writeFileSync' && !fs.existsSync(first)) return () => fs.rmSync(first, { force: true })
    if (name === 'unlinkSync' || name === 'rmdirSync') return this.#keep(first)
    if (name === 'unlinkat') {
      const [dirFd, bytes] = args as [number, Buffer]
      return this.#keep(
        join(fs.readlinkSync(`/proc/self/fd/${dirFd}`), bytes.toString('utf8').replace(/\0.*/s, '')),
      )
    }
    return undefined
  }

  /** Keeps the file of a name, so that it can get the name again. */
  #keep(path: string): (() => void) | undefined {
    const stats = fs.lstatSync(path, { throwIfNoEntry: false })
    if (stats === undefined) return undefined
    if (stats.isDirectory()) return () => fs.mkdirSync(path, { recursive: true })
    this.#graves += 1
    const grave = join(this.folder, 'graves', String(this.#graves))
    fs.linkSync(path, grave)
    return () => {
      fs.mkdirSync(join(path, '..'), { recursive: true })
      fs.rmSync(path, { force: true })
      fs.linkSync(grave, path)
    }
  }

  #noteData(name: string, args: readonly unknown[]): void {
    const [first] = args
    switch (name) {
      case 'writeSync':
      case 'writev':
      case 'ftruncateSync':
        this.#dirty.add(fs.fstatSync(first as number).ino)
        break
      case 'writeFileSync':
        this.#dirty.add(fs.statSync(first as string).ino)
        break
      case 'fsyncSync':
        // A journal is written as a whole: it includes the names up to here.
        this.#dirty.delete(fs.fstatSync(first as number).ino)
        this.#names = []
        break
      case 'syncfs':
        this.#dirty.clear()
        this.#names = []
        break
    }
  }

  /** Cuts the power: of data that was not flushed, the last names and any content may be lost. Processes have to be killed before. */
  cutPower(): void {
    const lost = this.random.next() < 0.5 ? 0 : this.random.below(this.#names.length + 1)
    for (const undo of this.#names.slice(this.#names.length - lost).toReversed()) undo()
    const files = fs.readdirSync(this.folder, { recursive: true, withFileTypes: true })
    for (const file of files) {
      if (!file.isFile()) continue
      const path = join(file.parentPath, file.name)
      const { ino, size } = fs.statSync(path)
      if (!this.#dirty.has(ino) || this.random.next() < 0.3) continue
      // As ext4 and xfs leave such files: empty, cut, or full of zeros.
      const way = this.random.below(3)
      fs.truncateSync(path, way === 0 ? 0 : way === 1 ? Math.floor(size / 2) : 0)
      if (way === 2) fs.truncateSync(path, size)
    }
    this.#dirty.clear()
    this.#names = []
  }
}

/** A function with a callback, of which only the promise is used. */
function withPromise(act: (...args: never[]) => Promise<unknown>): Table[string] {
  const refuse = () => {
    throw new Error('only its promise is simulated')
  }
  return Object.assign(refuse, { [promisify.custom]: act })
}
