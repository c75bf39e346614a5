import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, rename, stat } from 'node:fs/promises'
import { isErrno, isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { type Digest, digestOf } from '../image/index.ts'
import { TrustedDirectory, unlinkIfThere } from '../linux/index.ts'

const SUFFIX = '.lazy-index'
const UNFINISHED = /\.lazy-index\.[0-9a-f]{16}\.new$/
/** Writers finish within seconds: older files are those of writers that were killed. */
const UNFINISHED_MAX_AGE_MS = 24 * 3_600_000
/** A named pipe is refused and not waited for. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const OTHERS_WRITE = 0o022

/** A lazy index that was found, with its digest. */
export interface SharedIndex {
  readonly digest: Digest
  readonly bytes: Buffer
}

/** Lazy indexes that machines share. */
export interface SharedIndexes {
  /** Where they are, for messages. */
  readonly path: string
  /** Gets the index of a layer blob; undefined if there is none. @throws STORE_UNSAFE, DOCUMENT_TOO_LARGE, system errors */
  readonly find: (blob: Digest, maxBytes: number) => Promise<SharedIndex | undefined>
}

/**
 * The directory of `lazy_index_dir`, which several stores and machines may share: a file `<digest of the layer blob>.lazy-index` for each layer.
 * Only root and this user may be able to write to it and to its files.
 */
export class LazyIndexDirectory implements SharedIndexes {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /**
   * Reads the index of a layer blob and returns it with its digest; undefined if there is none. @throws STORE_UNSAFE if others may write to it,
   * DOCUMENT_TOO_LARGE, system errors
   */
  async find(blob: Digest, maxBytes: number): Promise<SharedIndex | undefined> {
    const name = `${blob}${SUFFIX}`
    try {
      using directory = TrustedDirectory.find(this.path)
      if (directory === undefined) return undefined
      await using file = await open(directory.at(name), READ)
      const bytes = await this.#read(file, name, maxBytes)
      return { digest: digestOf(bytes), bytes }
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      if (isErrno(error, 'ELOOP')) throw this.#unsafe(name, 'it is a symlink')
      throw toLoamError(error, `read ${this.path}/${name}`)
    }
  }

  async #read(file: FileHandle, name: string, maxBytes: number): Promise<Buffer> {
    const stats = await file.stat()
    const { uid, mode, size } = stats
    if (!stats.isFile()) throw this.#unsafe(name, 'it is not a regular file')
    if (uid !== 0 && uid !== process.geteuid?.()) throw this.#unsafe(name, `it is owned by user ${uid}`)
    if ((mode & OTHERS_WRITE) !== 0)
      throw this.#unsafe(name, `others may write to it (mode ${(mode & 0o7777).toString(8)})`)
    if (size > maxBytes)
      throw new LoamError(
        'DOCUMENT_TOO_LARGE',
        `read ${this.path}/${name}: it has ${size} bytes, the limit is ${maxBytes}`,
      )
    const bytes = Buffer.alloc(size)
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(bytes, at, size - at, at)
      // A file that has become shorter is not what its writer renamed here.
      if (bytesRead === 0) return bytes.subarray(0, at)
      at += bytesRead
    }
    return bytes
  }

  /** Returns whether it has exactly this index of a layer blob. @throws as `find` */
  async has(blob: Digest, index: { readonly digest: Digest; readonly sizeBytes: number }): Promise<boolean> {
    try {
      return (await this.find(blob, index.sizeBytes))?.digest === index.digest
    } catch (error) {
      if (isLoamError(error, 'DOCUMENT_TOO_LARGE')) return false
      throw error
    }
  }

  /** Writes the index of a layer blob in one step, in place of an older one. Readers see either. @throws STORE_UNSAFE, system errors */
  async write(blob: Digest, bytes: Buffer): Promise<void> {
    const name = `${blob}${SUFFIX}`
    try {
      using directory = TrustedDirectory.open(this.path)
      await removeUnfinished(directory)
      const unfinished = directory.at(`${name}.${randomBytes(8).toString('hex')}.new`)
      try {
        {
          // Windows of an index hold pieces of files, which may be secret.
          await using file = await open(unfinished, 'wx', 0o600)
          await file.writeFile(bytes)
          await file.sync()
        }
        await rename(unfinished, directory.at(name))
      } catch (error) {
        unlinkIfThere(unfinished)
        throw error
      }
    } catch (error) {
      throw toLoamError(error, `write ${this.path}/${name}`)
    }
  }

  #unsafe(name: string, why: string): LoamError {
    return new LoamError('STORE_UNSAFE', `read ${this.path}/${name}: ${why}`, {
      hint: 'Only root and the user of Loam may be able to write to lazy_index_dir and to the files in it.',
    })
  }
}

async function removeUnfinished(directory: TrustedDirectory): Promise<void> {
  for (const name of directory.list().filter((each) => UNFINISHED.test(each))) {
    try {
      const { mtimeMs } = await stat(directory.at(name))
      if (Date.now() - mtimeMs > UNFINISHED_MAX_AGE_MS) unlinkIfThere(directory.at(name))
    } catch (error) {
      // Another writer has removed or renamed it.
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}
