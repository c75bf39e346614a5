import { closeSync, openSync, readSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, libc, O_PATH } from './libc.ts'

// linux/mount.h
const FSOPEN_CLOEXEC = 1
const FSCONFIG_SET_FLAG = 0
const FSCONFIG_SET_STRING = 1
const FSCONFIG_CMD_CREATE = 6
const FSMOUNT_CLOEXEC = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
/** fsconfig takes strings of at most 255 bytes. */
const MAX_STRING_BYTES = 255
const KERNEL_MESSAGE = ' (kernel: '

/** A file system that is being set up with the kernel's mount API of descriptors; nothing is mounted until `attach`. */
export class MountContext implements Disposable {
  readonly #type: string
  readonly #context: number
  readonly #fds: number[]

  private constructor(type: string, context: number) {
    this.#type = type
    this.#context = context
    this.#fds = [context]
  }

  /** Returns undefined when this kernel has no such API (before 5.2). @throws ENODEV for an unknown type */
  static open(type: string): MountContext | undefined {
    try {
      return new MountContext(type, libc().fsopen(type, FSOPEN_CLOEXEC))
    } catch (error) {
      if (isErrno(error, 'ENOSYS')) return undefined
      throw error
    }
  }

  setFlag(key: string): void {
    this.#describe(key, () => libc().fsconfig(this.#context, FSCONFIG_SET_FLAG, key, null, 0))
  }

  setString(key: string, value: string): void {
    this.#describe(`${key}=${value}`, () =>
      libc().fsconfig(this.#context, FSCONFIG_SET_STRING, key, value, 0),
    )
  }

  /** Sets a path; one that is too long is passed as the name of a descriptor. `written` is how the kernel wants it escaped. */
  setPath(key: string, path: string, written = path): void {
    this.setString(
      key,
      Buffer.byteLength(written) <= MAX_STRING_BYTES ? written : descriptorPath(path, this.#fds),
    )
  }

  /** Creates the file system and returns a descriptor of its root, which is not mounted anywhere; the caller closes it. */
  create(attributes: number): number {
    this.#describe('mount', () => libc().fsconfig(this.#context, FSCONFIG_CMD_CREATE, null, null, 0))
    return libc().fsmount(this.#context, FSMOUNT_CLOEXEC, attributes)
  }

  /** Creates the file system and mounts it at an existing directory. */
  attach(target: string, attributes: number): void {
    const mount = this.create(attributes)
    this.#fds.push(mount)
    libc().moveMount(mount, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
  }

  /** Adds the kernel's messages in the context to an error: "overlay: filesystem on … not supported as upperdir". */
  #describe(attempted: string, act: () => void): void {
    try {
      act()
    } catch (error) {
      if (error instanceof Error) {
        const words = this.#readMessages()
        error.message = `${this.#type} ${attempted}: ${error.message}${words === '' ? '' : `${KERNEL_MESSAGE}${words})`}`
      }
      throw error
    }
  }

  #readMessages(): string {
    const words: string[] = []
    const buffer = Buffer.alloc(4096)
    try {
      for (;;) {
        const length = readSync(this.#context, buffer)
        const text = buffer.toString('utf8', 0, length)
        words.push(text.replace(/^[ewi] /, '').trim())
      }
    } catch {
      // ENODATA ends the messages.
    }
    return words.join('; ')
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeSync(fd)
    this.#fds.length = 0
  }
}

/** Returns whether the kernel gave a reason besides not knowing the parameter. */
export function hasKernelReason(error: unknown): boolean {
  return (
    error instanceof Error &&
    error.message.includes(KERNEL_MESSAGE) &&
    !error.message.includes('Unknown parameter')
  )
}

/** Opens a path and returns a short name of it, which holds while the descriptor is open. */
export function descriptorPath(path: string, fds: number[]): string {
  const fd = openSync(path, O_PATH)
  fds.push(fd)
  return `/proc/self/fd/${fd}`
}
