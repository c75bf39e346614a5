import { posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import {
  findExecutableInRoot,
  hostPlatform,
  isOfFormat,
  listBinaryFormats,
  readPartInRoot,
} from '../linux/index.ts'
import { HEAD_BYTES, readProgramFile, type RuntimeMount, searchPath } from '../runtime/index.ts'

/** Where to look up a command. */
export interface CommandContext {
  readonly rootfsPath: string
  readonly env: readonly string[]
  readonly cwd: string
  readonly mounts: readonly Pick<RuntimeMount, 'destination'>[]
  /** The running container that the command is for. Undefined: a new one. */
  readonly container?: string | undefined
}

/** Scripts whose interpreters are scripts; the kernel follows as many (fs/exec.c). */
const MAX_INTERPRETERS = 5
/** Paths that the runtime mounts in every container. */
const MOUNTED: readonly string[] = ['/proc', '/dev', '/sys']

/**
 * Returns the path of a command in the container, and ensures that the kernel can execute it. The runtime would look it up as well, but
 * fail with its own messages and with a status that cannot be distinguished from the process's own. Does not look into mounts.
 * @throws COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE
 */
export function findCommand(command: string | undefined, context: CommandContext): string {
  if (command === undefined || command === '') {
    throw noCommand(context)
  }
  const directories = searchPath(context.env)
  const candidates = command.includes('/')
    ? [posix.resolve(context.cwd, command)]
    : directories.map((directory) => posix.resolve(context.cwd, directory, command))
  const covered = candidates.find((path) => isCovered(path, context))
  const found = candidates.map((path) => findExecutableInRoot(context.rootfsPath, path))
  const path = candidates[found.indexOf('executable')]
  if (covered !== undefined) return path ?? covered
  if (path !== undefined) {
    checkProgram(command, path, context)
    return path
  }
  const at = found.findIndex((what) => what !== 'missing')
  if (at >= 0) {
    const why = found[at] === 'directory' ? 'is a directory' : 'is not executable'
    throw notExecutable(command, `${candidates[at]} ${why}`, context)
  }
  throw new LoamError(
    'COMMAND_NOT_FOUND',
    `${attempt(command, context)}: the ${placeOf(context)} does not contain this program`,
    {
      hint: command.includes('/') ? undefined : `Searched ${directories.join(', ')}.`,
    },
  )
}

/** A mount cannot be searched before it is mounted. */
function isCovered(path: string, { mounts }: CommandContext): boolean {
  return [...MOUNTED, ...mounts.map(({ destination }) => destination)].some((destination) =>
    `${path}/`.startsWith(posix.join(destination, '/')),
  )
}

/** Follows a program to its interpreter or loader, as the kernel does. */
function checkProgram(command: string, program: string, context: CommandContext): void {
  const { architecture } = hostPlatform()
  const formats = listBinaryFormats()
  let path = program
  for (let depth = 0; depth <= MAX_INTERPRETERS; depth += 1) {
    const read = (offset: number, length: number) =>
      readPartInRoot(context.rootfsPath, path, { offset, length }) ?? Buffer.alloc(0)
    const head = read(0, HEAD_BYTES)
    if (formats.some((format) => isOfFormat(head, format))) return
    const file = readProgramFile(read, architecture)
    if (file.kind === 'invalid') throw notExecutable(command, `${path}: ${file.why}`, context, file.hint)
    if (file.interpreter === undefined) return
    const interpreter = posix.resolve(context.cwd, file.interpreter)
    if (isCovered(interpreter, context)) return
    const what = findExecutableInRoot(context.rootfsPath, interpreter)
    if (what !== 'executable') {
      const why =
        what === 'missing' ? `which the ${placeOf(context)} does not have` : 'which cannot be executed'
      throw notExecutable(
        command,
        `${path} is run by ${JSON.stringify(file.interpreter)}, ${why}`,
        context,
        file.interpreter.endsWith('\r')
          ? `End the lines of ${path} in LF alone: its first line ends in CR LF.`
          : undefined,
      )
    }
    path = interpreter
  }
  throw notExecutable(command, `${program} leads to more than ${MAX_INTERPRETERS} interpreters`, context)
}

function noCommand({ container }: CommandContext): LoamError {
  return container === undefined
    ? new LoamError('COMMAND_NOT_FOUND', 'run: no command was given and the image does not define one', {
        hint: 'Give the command after the image: loam run IMAGE -- /bin/sh',
      })
    : new LoamError('COMMAND_NOT_FOUND', `exec in ${container}: no command was given`, {
        hint: `Give the command after the container: loam exec ${container} /bin/sh`,
      })
}

function placeOf({ container }: CommandContext): string {
  return container === undefined ? 'image' : 'container'
}

function attempt(command: string, { container }: CommandContext): string {
  const quoted = JSON.stringify(command)
  return container === undefined ? `run ${quoted}` : `exec ${quoted} in ${container}`
}

function notExecutable(command: string, why: string, context: CommandContext, hint?: string): LoamError {
  return new LoamError(
    'COMMAND_NOT_EXECUTABLE',
    `${attempt(command, context)}: it cannot be executed: ${why}`,
    { hint },
  )
}
