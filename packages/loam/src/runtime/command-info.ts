import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, parseStrictJson, type RunConfig } from '../image/index.ts'

/** What a framework of Mesos asks to be run (mesos.proto, CommandInfo). */
export interface CommandInfo {
  /** `value` is a line for /bin/sh -c. Undefined: true, as in Mesos. */
  readonly shell?: boolean | undefined
  readonly value?: string | undefined
  /** With a `value` without shell, its first one is not the program again. */
  readonly arguments?: readonly string[] | undefined
}

/**
 * Merges a command with an image's entrypoint and command, as Mesos's docker/runtime and appc/runtime isolators do:
 *   value         value, and the arguments
 *   arguments     the entrypoint, or else the first word of the command, and the arguments
 *   nothing       the entrypoint and the command
 * An Appc image's `exec` is an entrypoint of one word and a command. @throws USAGE when there is nothing to run
 */
export function mergeCommandInfo(run: Pick<RunConfig, 'entrypoint' | 'cmd'>, command: CommandInfo): string[] {
  const { shell = true, value, arguments: args = [] } = command
  if (shell) {
    if (value !== undefined) return ['/bin/sh', '-c', value]
    throw new LoamError('USAGE', 'run: Shell specified but no command value provided')
  }
  if (value !== undefined) return [value, ...args]
  const { entrypoint, cmd } = run
  if (entrypoint.length === 0 && cmd.length === 0) {
    throw new LoamError(
      'USAGE',
      'run: No executable is found: the command names none, and neither does the image',
    )
  }
  if (args.length === 0) return [...entrypoint, ...cmd]
  return [...(entrypoint.length > 0 ? entrypoint : cmd.slice(0, 1)), ...args]
}

const CommandInfoSchema = v.strictObject({
  shell: v.optional(v.boolean()),
  value: v.optional(v.string()),
  arguments: v.optional(v.array(v.string())),
})

/** Reads a command from JSON. @throws USAGE */
export function parseCommandInfo(json: string): CommandInfo {
  try {
    return check(CommandInfoSchema, parseStrictJson(Buffer.from(json), 'command'), 'command')
  } catch (error) {
    throw new LoamError('USAGE', `read command ${JSON.stringify(json.slice(0, 200))}: it is none`, {
      cause: error,
      hint: 'Write {"shell": false, "value": "/bin/app", "arguments": ["-v"]}.',
    })
  }
}
