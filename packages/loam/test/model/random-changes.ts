// Random changes of a real root filesystem, as a container makes them.
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { isErrno } from '../../src/errors/index.ts'
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, encodeTimes, libc } from '../../src/linux/index.ts'
import type { Random } from '../faults/random.ts'

const NUL = Buffer.alloc(1)
const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_TRUNC, O_WRONLY } = constants
/** A symlink would lead out of the container, and a fifo waits for a reader. */
const WRITE = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK
/** Changes a file of the image, which copies it up. */
const APPEND = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK
const NAMES = [
  'a',
  'b',
  'c',
  'd',
  'lib',
  'etc',
  'new\nline',
  '.wh',
  'wh.a',
  '\xff\xfe',
  '-x',
  '=',
  'x'.repeat(255),
]
/** Errors that a change may get, since it checks nothing beforehand. */
const REFUSED = [
  'EXDEV',
  'EEXIST',
  'ENOTEMPTY',
  'EINVAL',
  'EISDIR',
  'ENOTDIR',
  'ENOENT',
  'ENAMETOOLONG',
  'ELOOP',
  'EPERM',
  'ENODATA',
  'ENXIO',
  'EOPNOTSUPP',
  'ENOTSUP',
  'ENOSPC',
]
const SPECIAL_TYPES = [0o10000, 0o20000, 0o60000]

/** Makes a number of changes. A change that the kernel refuses counts as one. */
export function changeTree(root: string, random: Random, count: number): void {
  const changer = new TreeChanger(Buffer.from(root), random)
  for (let change = 0; change < count; change += 1) {
    try {
      changer.act()
    } catch (error) {
      if (!isErrno(error, ...REFUSED)) throw error
    }
  }
}

class TreeChanger {
  readonly #root: Buffer
  readonly #random: Random
  #files: Buffer[] = []
  #directories: Buffer[] = []

  constructor(root: Buffer, random: Random) {
    this.#root = root
    this.#random = random
  }

  act(): void {
    this.#look()
    const random = this.#random
    const kind = random.weighted({
      remove: 14,
      removeAll: 4,
      write: 8,
      append: 4,
      sparse: 1,
      mkdir: 6,
      rename: 8,
      link: 5,
      symlink: 4,
      special: 3,
      replace: 8,
      chmod: 3,
      chown: 3,
      touch: 3,
      xattr: 5,
      unsetXattr: 2,
    })
    const any = random.pick([...this.#files, ...this.#directories.slice(1), this.#fresh()])
    // With no file there is nothing to change: the name is not found then.
    const file = this.#files.length > 0 ? random.pick(this.#files) : this.#fresh()
    const acts: Readonly<Record<typeof kind, () => void>> = {
      // A file may have been replaced by a directory.
      remove: () => rmSync(file, { recursive: true }),
      removeAll: () => this.#removeAll(),
      write: () => this.#write(this.#fresh(), WRITE),
      append: () => this.#write(file, APPEND),
      sparse: () => this.#sparse(this.#fresh()),
      mkdir: () => mkdirSync(this.#fresh()),
      rename: () =>
        renameSync(
          any,
          random.next() < 0.5 ? this.#fresh() : random.pick([...this.#files, ...this.#directories]),
        ),
      link: () => linkSync(file, this.#fresh()),
      symlink: () => symlinkSync(random.pick(['a', '/etc/b', '../..', 'l/'.repeat(700)]), this.#fresh()),
      special: () => this.#special(this.#fresh()),
      replace: () => this.#replace(any),
      chmod: () => this.#chmod(any),
      chown: () => lchownSync(any, random.pick([0, 1000, 70_000]), random.pick([0, 65_536])),
      touch: () => this.#touch(any),
      xattr: () => this.#setXattr(any),
      unsetXattr: () => this.#unsetXattr(any),
    }
    acts[kind]()
  }

  #look(): void {
    this.#files = []
    this.#directories = [this.#root]
    for (const directory of this.#directories) {
      for (const entry of readdirSync(directory, { encoding: 'buffer', withFileTypes: true })) {
        const path = join(directory, entry.name)
        if (entry.isDirectory()) this.#directories.push(path)
        else this.#files.push(path)
      }
    }
  }

  /** A name that may be new, in any directory. */
  #fresh(): Buffer {
    const name =
      this.#random.next() < 0.6
        ? Buffer.from(this.#random.pick(NAMES), 'latin1')
        : Buffer.from(`m${this.#random.below(10_000)}`)
    return join(this.#random.pick(this.#directories), name)
  }

  #bytes(): Buffer {
    return Buffer.alloc(this.#random.pick([0, 1, 511, 512, 4097, 30_000]), `${this.#random.below(100_000)} `)
  }

  #removeAll(): void {
    const directory = this.#random.pick(this.#directories)
    if (directory !== this.#root) rmSync(directory, { recursive: true })
  }

  #chmod(path: Buffer): void {
    const mode = this.#random.pick([0o644, 0o4755, 0o1777, 0, 0o700])
    if (!lstatSync(path).isSymbolicLink()) chmodSync(path, mode)
  }

  #write(path: Buffer, flags: number): void {
    const fd = this.#open(path, flags)
    try {
      if (fstatSync(fd).isFile()) writeSync(fd, this.#bytes())
    } finally {
      closeSync(fd)
    }
  }

  /** In a sticky directory that all may write to, O_CREAT does not open a file of another user (fs.protected_regular). */
  #open(path: Buffer, flags: number): number {
    try {
      return openSync(path, flags, 0o644)
    } catch (error) {
      if (!isErrno(error, 'EACCES')) throw error
      return openSync(path, flags & ~O_CREAT)
    }
  }

  #sparse(path: Buffer): void {
    const fd = openSync(path, 'wx')
    try {
      ftruncateSync(fd, 300_000 + this.#random.below(10_000))
      writeSync(fd, 'data', this.#random.below(200_000))
    } finally {
      closeSync(fd)
    }
  }

  #special(path: Buffer): void {
    const type = this.#random.pick(SPECIAL_TYPES)
    libc().mknodat(AT_FDCWD, Buffer.concat([path, NUL]), type | 0o640, type === 0o10000 ? 0n : 0x105n)
  }

  /** Replaces a file by one of another type. */
  #replace(path: Buffer): void {
    rmSync(path, { recursive: true, force: true })
    const kind = this.#random.weighted({ file: 3, directory: 5, symlink: 2, special: 1 })
    if (kind === 'file') this.#write(path, WRITE)
    else if (kind === 'symlink') symlinkSync('a', path)
    else if (kind === 'special') this.#special(path)
    else {
      mkdirSync(path)
      if (this.#random.next() < 0.6) this.#write(join(path, Buffer.from('inside')), WRITE)
    }
  }

  #touch(path: Buffer): void {
    const seconds = this.#random.pick([0, -1, 1_700_000_000, 2 ** 33])
    const times = encodeTimes(seconds, this.#random.pick([0, 1, 999_999_999]))
    libc().utimensat(AT_FDCWD, Buffer.concat([path, NUL]), times, AT_SYMLINK_NOFOLLOW)
  }

  #setXattr(path: Buffer): void {
    const isPlain = lstatSync(path).isFile() || lstatSync(path).isDirectory()
    const acl = Buffer.from(
      '0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000400ffffffff',
      'hex',
    )
    const [name = '', value = NUL] = this.#random.pick([
      ['trusted.t', Buffer.from([0, 61, 10, 255])],
      ['security.s', Buffer.from('1\0security.u=2')],
      ['trusted.empty', Buffer.alloc(0)],
      ...(isPlain
        ? ([
            ['user.u', Buffer.alloc(this.#random.below(900), 'v')],
            ['user.\xe9\n', Buffer.from('odd')],
            ['system.posix_acl_access', acl],
          ] as const)
        : []),
      ...(lstatSync(path).isFile()
        ? ([['security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')]] as const)
        : []),
    ] as const)
    const key = Buffer.from(`${name}\0`, 'latin1')
    libc().lsetxattr(Buffer.concat([path, NUL]), key, value, value.length, 0)
  }

  #unsetXattr(path: Buffer): void {
    // There is no such call here: an empty value is the closest.
    libc().lsetxattr(Buffer.concat([path, NUL]), Buffer.from('trusted.t\0'), Buffer.alloc(0), 0, 0)
  }
}

function join(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, Buffer.from('/'), name])
}
