import * as v from 'valibot'
import { LoamError, toLoamError } from '../errors/index.ts'
import { check, parseStrictJson, type RunConfig } from '../image/index.ts'

/** Go and protobuf's JSON write null for absent fields. */
const optional = <const Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)
const VariableSchema = v.strictObject({
  name: v.pipe(v.string(), v.regex(/^[^=\0]+$/, 'is not a valid variable name')),
  type: optional(v.literal('VALUE', 'is not VALUE; secrets are given by value')),
  value: optional(v.string()),
})

/** A command as a Mesos framework sends it (mesos.proto, CommandInfo). Programs come from the image: `uris` are not fetched. */
export interface CommandInfo {
  /** `value` is a line for /bin/sh -c. Absent: true, as in Mesos. */
  readonly shell?: boolean | null | undefined
  /** A line for the shell, or the path of a program. */
  readonly value?: string | null | undefined
  /** With a `value` that is not a line for the shell: all of argv, including the first word, which the program gets as its own name. */
  readonly arguments?: readonly string[] | null | undefined
  /** Variables of its environment. */
  readonly environment?:
    | {
        /** In order; the last one of a name counts. */ readonly variables?:
          | readonly CommandVariable[]
          | null
          | undefined
      }
    | null
    | undefined
  /** User to run the program as. */
  readonly user?: string | null | undefined
}

/** A variable of a command's environment. */
export interface CommandVariable {
  /** Its name. */
  readonly name: string
  /** Its value; empty when it is left out. */
  readonly value?: string | null | undefined
}

const CommandInfoSchema: v.GenericSchema<unknown, CommandInfo> = v.strictObject({
  shell: optional(v.boolean()),
  value: optional(v.string()),
  arguments: optional(v.array(v.string())),
  environment: optional(v.strictObject({ variables: optional(v.array(VariableSchema)) })),
  user: optional(v.string()),
  uris: optional(v.pipe(v.array(v.unknown()), v.empty('has URIs to fetch, which Loam does not support'))),
})

/**
 * Returns the argv of a command, merged with an image's entrypoint and command as Mesos's docker/runtime and appc/runtime isolators and its
 * launcher (launch.cpp) do:
 *   value         the arguments, as in execvp(value, arguments); value if there are no arguments
 *   arguments     the entrypoint, or else the first word of the command, and the arguments
 *   neither       the entrypoint and the command
 * An Appc image's `exec` is an entrypoint of one word and a command. @throws USAGE when there is nothing to run
 */
export function mergeCommandInfo(run: Pick<RunConfig, 'entrypoint' | 'cmd'>, command: CommandInfo): string[] {
  const value = command.value ?? undefined
  const args = command.arguments ?? []
  if (command.shell ?? true) {
    if (value !== undefined) return ['/bin/sh', '-c', value]
    throw new LoamError('USAGE', 'run: Shell specified but no command value provided', {
      hint: 'Add "value", or "shell": false for the image\'s own command.',
    })
  }
  if (value !== undefined) return args.length > 0 ? [...args] : [value]
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

/** Returns the program of a command, which may differ from the first word of its argv; undefined if it is that word. */
export function programOf({ shell, value }: CommandInfo): string | undefined {
  return (shell ?? true) ? undefined : (value ?? undefined)
}

/** Returns the variables of a command as `KEY=VALUE`. */
export function variablesOf({ environment }: CommandInfo): string[] {
  return (environment?.variables ?? []).map(({ name, value }) => `${name}=${value ?? ''}`)
}

/** Reads a command from JSON. @throws USAGE */
export function parseCommandInfo(json: string): CommandInfo {
  try {
    return check(CommandInfoSchema, parseStrictJson(Buffer.from(json), 'command'), 'command')
  } catch (error) {
    const { message } = toLoamError(error, 'read')
    throw new LoamError('USAGE', `read command ${JSON.stringify(json.slice(0, 200))}: ${message}`, {
      cause: error,
      hint: 'Write {"shell": false, "value": "/bin/app", "arguments": ["app", "-v"]}.',
    })
  }
}
