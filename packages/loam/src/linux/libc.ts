/*
 * The C library, by koffi: the only place with foreign calls. A call that fails throws the error that Node's own
 * fs would throw for it (code, errno, syscall, path), so that callers need one way to look at errors.
 * Paths are bytes: a Buffer must end in NUL, a string is UTF-8.
 */
import { readlinkSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { getSystemErrorMap } from 'node:util'
import { LoamError } from '../errors/index.ts'
import { type Koffi, loadKoffi } from './koffi.ts'

type Path = string | Buffer

/** Directory descriptor that means the working directory (fcntl.h). */
export const AT_FDCWD = -100
export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_SYMLINK_FOLLOW = 0x400
export const AT_REMOVEDIR = 0x200
// Linux's own, which node:fs does not name; equal on all architectures that Node runs on (asm-generic/fcntl.h).
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000
export const AT_EMPTY_PATH = 0x1000
export const AT_NO_AUTOMOUNT = 0x800

// Equal on all architectures: they were added after the numbers were unified (asm-generic/unistd.h).
const SYS_OPEN_TREE = 428
const SYS_MOVE_MOUNT = 429
const SYS_PIDFD_OPEN = 434
const SYS_PIDFD_GETFD = 438
const SYS_FSOPEN = 430
const SYS_FSCONFIG = 431
const SYS_FSMOUNT = 432
const SYS_OPENAT2 = 437
const SYS_MOUNT_SETATTR = 442
const SYS_QUOTACTL_FD = 443
const SYS_STATMOUNT = 457
// Older, and a number of its own on x86_64; musl has no wrapper for it.
const SYS_SETGROUPS = process.arch === 'x64' ? 116 : 159
const SYS_SETFSUID = process.arch === 'x64' ? 122 : 151
const SYS_SETFSGID = process.arch === 'x64' ? 123 : 152
const SYS_CAPGET = process.arch === 'x64' ? 125 : 90
const SYS_CAPSET = process.arch === 'x64' ? 126 : 91
const SYS_RENAMEAT2 = process.arch === 'x64' ? 316 : 276

export interface Libc {
  readonly getsockopt: (fd: number, level: number, name: number, value: Buffer, size: Buffer) => number
  readonly socket: (domain: number, type: number, protocol: number) => number
  readonly bind: (fd: number, address: Buffer, addressSize: number) => number
  readonly listen: (fd: number, backlog: number) => number
  readonly sendto: (
    fd: number,
    bytes: Buffer,
    size: number,
    flags: number,
    address: Buffer,
    addressSize: number,
  ) => number
  readonly fanotifyInit: (flags: number, eventFlags: number) => number
  readonly fanotifyMark: (fd: number, flags: number, mask: bigint, dirFd: number, path: Path | null) => number
  readonly pidfdOpen: (pid: number, flags: number) => number
  readonly pidfdGetfd: (pidFd: number, fd: number, flags: number) => number
  /** mmap(2) at an address of the kernel's choice; returns the address, which fits a number as user addresses have 47 bits. */
  readonly mmap: (
    address: null,
    bytes: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => number
  /** read(2) into memory that `viewMemory` shows. */
  readonly readInto: (fd: number, address: number, bytes: number) => number
  readonly getrlimit: (resource: number, limits: Buffer) => number
  readonly setrlimit: (resource: number, limits: Buffer) => number
  readonly clockGettime: (clock: number, time: Buffer) => number
  /** Of this thread alone: the calls of the C library would change all threads. */
  readonly setgroups: (count: number, groups: Buffer) => number
  readonly setfsuid: (userId: number) => number
  readonly setfsgid: (groupId: number) => number
  /** Of this thread alone, too. */
  readonly capget: (header: Buffer, sets: Buffer) => number
  readonly capset: (header: Buffer, sets: Buffer) => number
  readonly openat: (dirFd: number, path: Path, flags: number, mode: number) => number
  readonly openat2: (dirFd: number, path: Path, how: Buffer, size: number) => number
  readonly mkdirat: (dirFd: number, path: Path, mode: number) => number
  readonly mknodat: (dirFd: number, path: Path, mode: number, device: bigint) => number
  readonly symlinkat: (target: Path, dirFd: number, path: Path) => number
  readonly linkat: (fromFd: number, from: Path, toFd: number, to: Path, flags: number) => number
  readonly unlinkat: (dirFd: number, path: Path, flags: number) => number
  readonly renameat2: (fromFd: number, from: Path, toFd: number, to: Path, flags: number) => number
  readonly getdents64: (fd: number, entries: Buffer, size: number) => number
  /** lseek(2); an offset from getdents64 may need all 63 bits. */
  readonly lseek: (fd: number, offset: bigint | number, whence: number) => number
  readonly readlinkat: (dirFd: number, path: Path, target: Buffer, size: number) => number
  readonly fchown: (fd: number, uid: number, gid: number) => number
  readonly fchownat: (dirFd: number, path: Path, uid: number, gid: number, flags: number) => number
  readonly fchmod: (fd: number, mode: number) => number
  readonly fchmodat: (dirFd: number, path: Path, mode: number, flags: number) => number
  readonly utimensat: (dirFd: number, path: Path, times: Buffer, flags: number) => number
  readonly futimens: (fd: number, times: Buffer) => number
  readonly fsetxattr: (fd: number, name: Path, value: Buffer, size: number, flags: number) => number
  readonly setxattr: (path: Path, name: Path, value: Buffer, size: number, flags: number) => number
  readonly lsetxattr: (path: Path, name: Path, value: Buffer, size: number, flags: number) => number
  readonly lgetxattr: (path: Path, name: Path, value: Buffer, size: number) => number
  readonly llistxattr: (path: Path, list: Buffer, size: number) => number
  readonly getxattr: (path: Path, name: Path, value: Buffer, size: number) => number
  readonly listxattr: (path: Path, list: Buffer, size: number) => number
  readonly flock: (fd: number, operation: number) => number
  readonly syncfs: (fd: number) => number
  readonly fallocate: (fd: number, mode: number, offset: number, bytes: number) => number
  readonly syncFileRange: (fd: number, offset: number, bytes: number, flags: number) => number
  readonly ficlone: (fd: number, fromFd: number) => number
  /** ioctl(2) with a pointer to data, or without data. */
  readonly ioctl: (fd: number, request: number, data: Buffer | null) => number
  readonly statx: (dirFd: number, path: Path, flags: number, mask: number, out: Buffer) => number
  readonly access: (path: Path, mode: number) => number
  readonly _exit: (status: number) => number
  readonly prctl: (option: number, a: number, b: number, c: number, d: number) => number
  readonly mount: (
    source: Path | null,
    target: Path,
    type: string | null,
    flags: number,
    data: Path | null,
  ) => number
  readonly umount2: (target: Path, flags: number) => number
  readonly fsopen: (type: string, flags: number) => number
  readonly fsconfig: (
    fd: number,
    command: number,
    key: string | null,
    value: Path | null,
    aux: number,
  ) => number
  readonly fsmount: (fd: number, flags: number, attributes: number) => number
  readonly moveMount: (fromFd: number, from: string, toFd: number, to: Path, flags: number) => number
  readonly quotactlFd: (fd: number, command: number, id: number, data: Buffer) => number
  readonly statmount: (request: Buffer, out: Buffer, size: number, flags: number) => number
  readonly openTree: (dirFd: number, path: Path, flags: number) => number
  readonly mountSetattr: (
    dirFd: number,
    path: Path,
    flags: number,
    attributes: Buffer,
    size: number,
  ) => number
}

/** Futexes set EAGAIN, EINTR and ETIMEDOUT; a failed call never sets 0. */
const ENGINE_ERRNOS: readonly number[] = [0, 4, 11, 110]
const MAX_REPEATS = 5

let bindings: Libc | undefined

/** Returns the calls; the library is loaded at the first one, once for each thread. @throws UNSUPPORTED_SYSTEM */
export function libc(): Libc {
  bindings ??= bind()
  return bindings
}

/**
 * Lets this process end without the exit handlers of its libraries. koffi's flushes standard output to the disk, and never ends where that
 * fails (a file on a full or broken disk). For programs, at the start; not for a library in another program.
 */
export function endWithoutHandlers(): void {
  process.on('exit', (status) => {
    if (bindings === undefined) return
    flushCompileCache()
    bindings._exit(status)
  })
}

function bind(): Libc {
  const koffi = loadKoffi()
  const library = loadLibrary(koffi)
  // A failed call sets errno, which other code in this thread may overwrite, also the engine's own locks. So it is read at
  // once; and if it has a value that those locks set, the call is repeated, which is safe: a failed call has done nothing.
  const call = (name: string, signature: string, prefix: readonly number[] = []) => {
    const native = library.func(signature)
    return (...args: readonly unknown[]): number => {
      for (let tried = 1; ; tried += 1) {
        const result = Number(native(...prefix, ...args))
        if (result >= 0) return result
        const errno = koffi.errno()
        const isRepeatable = name !== 'flock' && ENGINE_ERRNOS.includes(errno)
        if (!isRepeatable || tried === MAX_REPEATS) throw systemError(errno, name, args)
      }
    }
  }
  const P = 'const void *'
  const syscall = (name: string, number: number, parameters: string) =>
    call(name, `long syscall(long number, ${parameters})`, [number])
  return {
    ...bindSockets(call),
    ...bindEvents(call),
    ...bindIds(syscall),
    openat: call('openat', `int openat(int d, ${P}p, int flags, uint32_t mode)`),
    openat2: syscall('openat2', SYS_OPENAT2, `long d, ${P}p, ${P}how, size_t size`),
    mkdirat: call('mkdirat', `int mkdirat(int d, ${P}p, uint32_t mode)`),
    mknodat: call('mknodat', `int mknodat(int d, ${P}p, uint32_t mode, uint64_t dev)`),
    symlinkat: call('symlinkat', `int symlinkat(${P}t, int d, ${P}p)`),
    linkat: call('linkat', `int linkat(int a, ${P}from, int b, ${P}to, int flags)`),
    unlinkat: call('unlinkat', `int unlinkat(int d, ${P}p, int flags)`),
    renameat2: syscall('renameat2', SYS_RENAMEAT2, `long a, ${P}from, long b, ${P}to, long flags`),
    getdents64: call('getdents64', 'long getdents64(int fd, void *entries, size_t size)'),
    lseek: call('lseek', 'int64_t lseek(int fd, int64_t offset, int whence)'),
    readlinkat: call('readlinkat', `long readlinkat(int d, ${P}p, void *target, size_t size)`),
    fchown: call('fchown', 'int fchown(int fd, uint32_t u, uint32_t g)'),
    fchownat: call('fchownat', `int fchownat(int d, ${P}p, uint32_t u, uint32_t g, int flags)`),
    fchmod: call('fchmod', 'int fchmod(int fd, uint32_t mode)'),
    fchmodat: call('fchmodat', `int fchmodat(int d, ${P}p, uint32_t mode, int flags)`),
    utimensat: call('utimensat', `int utimensat(int d, ${P}p, ${P}times, int flags)`),
    futimens: call('futimens', `int futimens(int fd, ${P}times)`),
    fsetxattr: call('fsetxattr', `int fsetxattr(int fd, ${P}n, ${P}v, size_t s, int flags)`),
    setxattr: call('setxattr', `int setxattr(${P}p, ${P}n, ${P}v, size_t s, int flags)`),
    lsetxattr: call('lsetxattr', `int lsetxattr(${P}p, ${P}n, ${P}v, size_t s, int flags)`),
    lgetxattr: call('lgetxattr', `long lgetxattr(${P}p, ${P}n, void *v, size_t s)`),
    llistxattr: call('llistxattr', `long llistxattr(${P}p, void *v, size_t s)`),
    getxattr: call('getxattr', `long getxattr(${P}p, ${P}n, void *v, size_t s)`),
    listxattr: call('listxattr', `long listxattr(${P}p, void *v, size_t s)`),
    flock: call('flock', 'int flock(int fd, int operation)'),
    syncfs: call('syncfs', 'int syncfs(int fd)'),
    fallocate: call('fallocate', 'int fallocate(int fd, int mode, int64_t offset, int64_t bytes)'),
    syncFileRange: call(
      'sync_file_range',
      'int sync_file_range(int fd, int64_t o, int64_t n, uint32_t flags)',
    ),
    ficlone: (
      (native) => (fd: number, from: number) =>
        native(fd, 0x40049409, from)
    )(call('ioctl', 'int ioctl(int fd, unsigned long request, long from)')),
    ioctl: call('ioctl', 'int ioctl(int fd, unsigned long request, void *data)'),
    statx: call('statx', `int statx(int d, ${P}p, int flags, uint32_t mask, void *out)`),
    clockGettime: call('clock_gettime', 'int clock_gettime(int clock, void *time)'),
    _exit: call('_exit', 'void _exit(int status)'),
    prctl: call(
      'prctl',
      'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
    ),
    access: call('access', `int access(${P}p, int mode)`),
    mount: call('mount', `int mount(${P}s, ${P}t, ${P}type, unsigned long flags, ${P}data)`),
    umount2: call('umount2', `int umount2(${P}t, int flags)`),
    fsopen: syscall('fsopen', SYS_FSOPEN, `${P}type, long flags`),
    fsconfig: syscall('fsconfig', SYS_FSCONFIG, `long fd, long command, ${P}key, ${P}value, long aux`),
    fsmount: syscall('fsmount', SYS_FSMOUNT, 'long fd, long flags, long attributes'),
    moveMount: syscall('move_mount', SYS_MOVE_MOUNT, `long a, ${P}from, long b, ${P}to, long flags`),
    quotactlFd: syscall('quotactl_fd', SYS_QUOTACTL_FD, 'long fd, long command, long id, void *data'),
    statmount: syscall('statmount', SYS_STATMOUNT, `${P}request, void *out, size_t size, long flags`),
    ...bindTrees(syscall),
  }
}

type Call = (
  name: string,
  signature: string,
  prefix?: readonly number[],
) => (...args: readonly unknown[]) => number

function bindSockets(call: Call): Pick<Libc, 'socket' | 'bind' | 'listen' | 'sendto' | 'getsockopt'> {
  const P = 'const void *'
  return {
    getsockopt: call('getsockopt', 'int getsockopt(int fd, int level, int name, void *value, void *size)'),
    socket: call('socket', 'int socket(int domain, int type, int protocol)'),
    bind: call('bind', `int bind(int fd, ${P}a, uint32_t size)`),
    listen: call('listen', 'int listen(int fd, int backlog)'),
    sendto: call('sendto', `long sendto(int fd, ${P}b, size_t n, int flags, ${P}a, uint32_t size)`),
  }
}

type Syscall = (name: string, number: number, parameters: string) => (...args: readonly unknown[]) => number

function bindTrees(syscall: Syscall): Pick<Libc, 'openTree' | 'mountSetattr'> {
  const P = 'const void *'
  return {
    openTree: syscall('open_tree', SYS_OPEN_TREE, `long d, ${P}p, long flags`),
    mountSetattr: syscall(
      'mount_setattr',
      SYS_MOUNT_SETATTR,
      `long d, ${P}p, long flags, ${P}attributes, size_t size`,
    ),
  }
}

function bindIds(syscall: Syscall): Pick<Libc, 'setgroups' | 'setfsuid' | 'setfsgid' | 'capget' | 'capset'> {
  return {
    setgroups: syscall('setgroups', SYS_SETGROUPS, 'long count, const void *groups'),
    setfsuid: syscall('setfsuid', SYS_SETFSUID, 'long id'),
    setfsgid: syscall('setfsgid', SYS_SETFSGID, 'long id'),
    capget: syscall('capget', SYS_CAPGET, 'void *header, void *sets'),
    capset: syscall('capset', SYS_CAPSET, 'const void *header, const void *sets'),
  }
}

type EventCalls =
  | 'fanotifyInit'
  | 'fanotifyMark'
  | 'pidfdOpen'
  | 'pidfdGetfd'
  | 'mmap'
  | 'readInto'
  | 'getrlimit'
  | 'setrlimit'

function bindEvents(call: Call): Pick<Libc, EventCalls> {
  return {
    fanotifyInit: call('fanotify_init', 'int fanotify_init(unsigned int flags, unsigned int event_flags)'),
    fanotifyMark: call(
      'fanotify_mark',
      'int fanotify_mark(int fd, unsigned int flags, uint64_t mask, int d, const void *p)',
    ),
    pidfdOpen: call('pidfd_open', 'long syscall(long number, long pid, long flags)', [SYS_PIDFD_OPEN]),
    pidfdGetfd: call('pidfd_getfd', 'long syscall(long number, long pidfd, long fd, long flags)', [
      SYS_PIDFD_GETFD,
    ]),
    // Addresses as integers: they are passed as pointers are.
    mmap: call('mmap', 'int64_t mmap(void *address, size_t n, int prot, int flags, int fd, int64_t offset)'),
    readInto: call('read', 'long read(int fd, int64_t address, size_t n)'),
    getrlimit: call('getrlimit', 'int getrlimit(int resource, void *limits)'),
    setrlimit: call('setrlimit', 'int setrlimit(int resource, const void *limits)'),
  }
}

/** Returns memory of this process, which has to stay mapped, as bytes. */
export function viewMemory(address: number, bytes: number): Buffer {
  return Buffer.from(loadKoffi().view(BigInt(address), bytes))
}

function loadLibrary(koffi: Koffi): ReturnType<Koffi['load']> {
  const names = ['libc.so.6', `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`]
  for (const name of names) {
    try {
      return koffi.load(name)
    } catch {
      // The other C library is tried; if none can be loaded, the error below says so.
    }
  }
  throw new LoamError('UNSUPPORTED_SYSTEM', `load the C library: none of ${names.join(', ')} is here`)
}

function systemError(errno: number, syscall: string, args: readonly unknown[]): NodeJS.ErrnoException {
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, 'unknown error']
  const named = args.filter((arg) => typeof arg === 'string' || Buffer.isBuffer(arg)).map(showArgument)[0]
  const path = EXPECTED_ERRORS.includes(code) ? named : wholePath(args[0], named)
  const error: NodeJS.ErrnoException = new Error(
    `${code}: ${text}, ${syscall}${path === undefined ? '' : ` '${path}'`}`,
  )
  error.code = code
  error.errno = -errno
  error.syscall = syscall
  if (path !== undefined) error.path = path
  return error
}

/** Frequent, and usually not failures. */
const EXPECTED_ERRORS: readonly string[] = ['ENOENT', 'EEXIST', 'EISDIR', 'ENOTDIR', 'EPERM', 'EAGAIN']

/** A name beneath a descriptor means little to a person. */
function wholePath(descriptor: unknown, name: string | undefined): string | undefined {
  if (typeof descriptor !== 'number' || descriptor < 0 || name?.startsWith('/') === true) return name
  try {
    const folder = readlinkSync(`/proc/self/fd/${descriptor}`)
    return name === undefined || name === '' ? folder : `${folder}/${name}`
  } catch {
    return name
  }
}

function showArgument(value: string | Buffer): string {
  if (typeof value === 'string') return value
  const end = value.indexOf(0)
  return value.toString('utf8', 0, Math.min(end < 0 ? value.length : end, 300))
}
