import { LoamError } from '../errors/index.ts'
import { closeSync } from 'node:fs'
import { setUpLoop } from './loop.ts'
import { MountContext } from './mount-context.ts'

/**
 * A file system in a file, mounted for writing but not attached to a path: other processes never see it, and it ends with this process, even by a kill.
 * Only this process can reach files in it, below `path`.
 */
export class UnattachedMount implements Disposable {
  readonly path: string
  readonly #fd: number

  private constructor(fd: number) {
    this.#fd = fd
    // The dot leads through the link of the descriptor, for callers that do not follow links.
    this.path = `/proc/self/fd/${fd}/.`
  }

  /** Mounts an image. Nothing is left on failure. @throws system errors if this process is not root, or there are no loop devices */
  static open(type: string, image: string, flags: readonly string[]): UnattachedMount {
    const fds: number[] = []
    try {
      const device = setUpLoop(image, { isReadOnly: false, fds })
      using context = MountContext.open(type)
      if (context === undefined)
        throw new LoamError('UNSUPPORTED_SYSTEM', 'mount: this kernel has no fsopen (Linux 5.2)')
      context.setString('source', device)
      for (const flag of flags) context.setFlag(flag)
      return new UnattachedMount(context.create(0))
    } finally {
      for (const fd of fds) closeSync(fd)
    }
  }

  /** Unmounts it: all that was written is in the file then. */
  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
