import { accessSync, closeSync, constants, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { isLoamError, LoamError, NO_SPACE_HINT, toLoamError } from '../errors/index.ts'
import { allocateOpenFile, FileLock, findWriteFault, freeBytes, isFull } from '../linux/index.ts'
import { Log } from './log.ts'
import { MIGRATIONS } from './schema.ts'

const BUSY_TIMEOUT_MS = 30_000
const BUSY_PAUSE_MS = 20
const ENOUGH_BYTES = 1 << 20

/** A row as SQLite gives it. */
export type Row = Readonly<Record<string, unknown>>

export interface OpenOptions {
  /** Serialises opening. */
  readonly lockFile: string
  /** Upgrades the files of a store before the tables of an earlier version. It may be called again after a crash. */
  readonly upgradeFiles?: ((fromVersion: number) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * The database of one store, opened by one process; many processes may have it open. It is written to by transactions only, which block this thread
 * neither for another process that writes nor for the disk. Statements are prepared once.
 */
export class Database implements Disposable {
  readonly #path: string
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #log: Log

  private constructor(path: string, database: DatabaseSync) {
    this.#path = path
    this.#database = database
    this.#log = new Log(`${path}-wal`, async (act) => this.visibleTransaction(act))
  }

  /** Opens the database, and creates it if it does not exist. @throws STORE_FORMAT, STORE_BUSY and system errors */
  static async open(path: string, { lockFile, upgradeFiles, signal }: OpenOptions): Promise<Database> {
    try {
      // Changing the journal mode and creating tables are not safe for several processes at once.
      using _lock = await FileLock.acquire(lockFile, { signal })
      requireRoom(path)
      const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
      database.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;')
      const opened = new Database(path, database)
      try {
        opened.#prepareSchema(upgradeFiles)
        // From here on, `Log` waits for the disk.
        database.exec('PRAGMA synchronous=NORMAL')
        // SQLite leaves holes in it, and a process that writes to a hole dies of SIGBUS if the disk has no block for it.
        allocateOpenFile(`${path}-shm`)
      } catch (error) {
        // So that SQLite leaves no log and no shared memory beside a foreign database.
        database.close()
        throw error
      }
      return opened
    } catch (error) {
      throw describe(error, `open ${path}`, path)
    }
  }

  #prepareSchema(upgradeFiles: OpenOptions['upgradeFiles']): void {
    const version = Number(this.get('PRAGMA user_version')?.['user_version'])
    if (version === MIGRATIONS.length) return
    if (version > MIGRATIONS.length) {
      throw new LoamError(
        'STORE_FORMAT',
        `open ${this.#path}: its tables have version ${version}, this version of Loam supports ${MIGRATIONS.length}`,
        {
          hint: 'Use the version of Loam that created this store, or another --root.',
        },
      )
    }
    if (version > 0) upgradeFiles?.(version)
    this.#act(() => {
      this.#database.exec('BEGIN IMMEDIATE')
    })
    this.#commit(() => {
      for (const step of MIGRATIONS.slice(version)) this.#database.exec(step)
      this.#database.exec(`PRAGMA user_version = ${MIGRATIONS.length}`)
    })
  }

  /** Runs a statement within a transaction. */
  run(sql: string, ...values: readonly SQLInputValue[]): void {
    this.#act(() => this.#prepare(sql).run(...values))
  }

  /** Returns the first row. */
  get(sql: string, ...values: readonly SQLInputValue[]): Row | undefined {
    return this.#act(() => this.#prepare(sql).get(...values))
  }

  /** Returns all rows. */
  all(sql: string, ...values: readonly SQLInputValue[]): readonly Row[] {
    return this.#act(() => this.#prepare(sql).all(...values))
  }

  /** Runs a function within the transaction that was begun, and commits it. */
  #commit<T>(act: () => T): T {
    try {
      const result = act()
      this.#act(() => {
        this.#database.exec('COMMIT')
      })
      return result
    } catch (error) {
      // A full disk may have rolled back already.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      if (isLoamError(error, 'NO_SPACE')) this.#reuseLog()
      throw error
    }
  }

  /** A log that could not grow is reused from its beginning once all of it is in the tables. */
  #reuseLog(): void {
    try {
      this.#database.exec('PRAGMA wal_checkpoint(PASSIVE)')
    } catch {
      // The tables may have to grow for that, and cannot.
    }
  }

  /**
   * Runs a function as one transaction and waits for other processes that write, and for the disk, without blocking this thread. Other callers
   * see the changes before they are on the disk, and concurrent callers share one wait. @throws the errors of the function, CANCELED when the
   * database is closed meanwhile, and system errors of the disk; the changes stay visible then, and `settle` waits for them
   */
  async durableTransaction<T>(act: () => T): Promise<T> {
    const result = await this.visibleTransaction(() => {
      this.#log.noteCommit()
      return act()
    })
    await this.#log.wait()
    return result
  }

  /**
   * Runs a function as one transaction and waits for other processes that write, without blocking this thread. Does not wait for the disk: the
   * changes survive a kill; a power cut may lose the last ones, in order, and the remaining ones are consistent. Must not be nested.
   * @throws the errors of the function, CANCELED when the database is closed meanwhile
   */
  async visibleTransaction<T>(act: () => T): Promise<T> {
    for (const endMs = performance.now() + BUSY_TIMEOUT_MS; ; await sleep(BUSY_PAUSE_MS)) {
      // The wait is asynchronous: the store may have been closed meanwhile.
      if (!this.#database.isOpen)
        throw new LoamError('CANCELED', 'wait for another writer of the database: the store was closed')
      const isLast = performance.now() >= endMs
      if (this.#tryBegin(isLast)) return this.#commit(act)
    }
  }

  /** Waits until all changes of this process that others may have seen are on the disk. @throws system errors of the disk */
  async settle(): Promise<void> {
    await this.#log.settle()
  }

  /** Begins a transaction. Returns false while another process writes. @throws STORE_BUSY instead for the last try */
  #tryBegin(isLast: boolean): boolean {
    this.#database.exec('PRAGMA busy_timeout=0')
    try {
      this.#act(() => {
        this.#database.exec('BEGIN IMMEDIATE')
      })
      return true
    } catch (error) {
      if (isLast || !isLoamError(error, 'STORE_BUSY')) throw error
      return false
    } finally {
      this.#database.exec(`PRAGMA busy_timeout=${BUSY_TIMEOUT_MS}`)
    }
  }

  [Symbol.dispose](): void {
    this.#statements.clear()
    this.#log[Symbol.dispose]()
    if (this.#database.isOpen) this.#database.close()
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }

  #act<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      throw describe(error, `use ${this.#path}`, this.#path)
    }
  }
}

/** With blocks smaller than a page, or with copy on write, the file has holes until `allocateOpenFile` has filled them. */
function requireRoom(path: string): void {
  const folder = dirname(path)
  if (freeBytes(folder) >= ENOUGH_BYTES || !isFull(folder)) return
  throw new LoamError('NO_SPACE', `open ${path}: the file system is full`, { hint: NO_SPACE_HINT })
}

// sqlite3.h: primary result codes
const SQLITE_PERM = 3
const SQLITE_BUSY = 5
const SQLITE_LOCKED = 6
const SQLITE_NOMEM = 7
const SQLITE_READONLY = 8
const SQLITE_INTERRUPT = 9
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
/** Several processes open the log at once. */
const SQLITE_PROTOCOL = 15
const SQLITE_NOLFS = 22
const SQLITE_NOTADB = 26
/** SQLite takes paths of 512 bytes, with what it appends for its own files. */
const MAX_PATH_BYTES = 504
/** The database, its log and its index of the log. */
const DATABASE_FILES = ['', '-wal', '-shm']

/** Returns the system error of what SQLite does with its files. It opens none of them: closing one would release SQLite's locks. */
function findFault(path: string): unknown {
  const opened: number[] = []
  try {
    const folder = dirname(path)
    let bytes = 0
    for (const ending of DATABASE_FILES) {
      opened.push(openSync(folder, 'r'))
      const stats = statSync(`${path}${ending}`, { throwIfNoEntry: false })
      if (stats === undefined) continue
      accessSync(`${path}${ending}`, constants.R_OK | constants.W_OK)
      bytes = Math.max(bytes, stats.size)
    }
    return findWriteFault(folder, bytes)
  } catch (error) {
    return error
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

function describe(error: unknown, attempted: string, path: string): LoamError {
  if (!(error instanceof Error) || !('errcode' in error)) return toLoamError(error, attempted)
  const primary = Number(error.errcode) & 0xff
  const make = (
    code: 'USAGE' | 'NO_SPACE' | 'STORE_BUSY' | 'READ_ONLY' | 'STORE_FORMAT' | 'SYSTEM' | 'INTERNAL',
    hint?: string,
    summary?: string,
  ) => {
    const reason = summary === undefined ? error.message : `${summary} (${error.message})`
    return new LoamError(code, `${attempted}: ${reason}`, { cause: error, hint })
  }
  if (primary === SQLITE_FULL) return make('NO_SPACE', NO_SPACE_HINT, 'no space left')
  if (primary === SQLITE_CANTOPEN && Buffer.byteLength(path) > MAX_PATH_BYTES)
    return make('USAGE', 'Choose a shorter --root.', `the path has more than ${MAX_PATH_BYTES} bytes`)
  // SQLite does not say which system error it got.
  const isVague = [SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_READONLY].includes(primary)
  const fault = isVague ? findFault(path) : undefined
  if (fault !== undefined) return toLoamError(fault, attempted)
  switch (primary) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      return make('STORE_BUSY', `Another process has held the database for ${BUSY_TIMEOUT_MS / 1000} s.`)
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return make('READ_ONLY', 'Choose a --root on a writable file system.')
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return make(
        'STORE_FORMAT',
        'The database is damaged: restore a backup of metadata.db, or start with a new --root.',
      )
    case SQLITE_PERM:
    case SQLITE_NOMEM:
    case SQLITE_IOERR:
    case SQLITE_INTERRUPT:
    case SQLITE_NOLFS:
      return make('SYSTEM')
    default:
      // A statement or a value that the tables do not accept.
      return make('INTERNAL')
  }
}
