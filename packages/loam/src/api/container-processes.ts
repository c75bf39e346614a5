import * as v from 'valibot'
import type { CommandInfo, TerminalSize } from '../runtime/index.ts'
import { HostMountSchema, ImageVolumeSchema, provisionFields } from './containers.ts'
import { image, PullEventSchema } from './fetch.ts'
import { conversation } from './operation.ts'
import { count, list, matching, text } from './schema.ts'

const texts = v.optional(list(v.string()))
const maybe = <const Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)
const CommandInfoSchema = matching<CommandInfo>()(
  v.strictObject({
    shell: maybe(v.boolean()),
    value: maybe(v.string()),
    arguments: maybe(list(v.string())),
    environment: maybe(
      v.strictObject({ variables: maybe(list(v.strictObject({ name: text, value: maybe(v.string()) }))) }),
    ),
    user: maybe(v.string()),
  }),
)

/** `KEY=VALUE` only: the environment of the client is not known here. */
const variables = v.optional(list(v.pipe(v.string(), v.includes('=', 'has no value'))))
/** Bounding set of the client: CapBnd of /proc/self/status. */
const capabilities = v.pipe(v.string(), v.regex(/^[0-9a-f]{1,16}$/, 'is not a set of capabilities'))
const StartEventSchema = v.object({
  kind: v.literal('start'),
  /** ID of the container. */
  id: text,
  /** The OCI runtime to start in the foreground, with its arguments and its whole environment. */
  file: text,
  args: list(v.string()),
  env: v.record(v.string(), v.string()),
  /** File in which the runtime writes the number of the process when it has started. Older daemons do not send it. */
  pidFile: v.optional(text),
})
/** Of 16 bits each, as the kernel has it (struct winsize). */
const characters = v.pipe(count, v.maxValue(0xffff))
const TerminalSizeSchema = matching<TerminalSize>()(v.strictObject({ columns: characters, rows: characters }))
const StatusSchema = v.object({
  /** Exit status of the process; 128 and the signal's number if a signal ended it. */
  status: count,
})
/** How the runtime has ended, or why it could not be started. */
const reply = v.union([v.strictObject({ status: count }), v.strictObject({ failed: v.string() })])

/** Operations in which the client has a part. */
export const CONTAINER_CONVERSATIONS = {
  'containers.run': conversation({
    method: 'POST',
    path: '/v1/containers/run',
    summary:
      'Create a root filesystem, let the client start the OCI runtime in it, and remove it when the process has ended.',
    request: v.strictObject({
      ...provisionFields,
      image,
      id: v.optional(text),
      isReadOnly: v.optional(v.boolean()),
      command: texts,
      commandInfo: v.optional(CommandInfoSchema),
      entrypoint: v.optional(v.string()),
      shell: v.optional(v.string()),
      env: variables,
      workingDir: v.optional(v.string()),
      user: v.optional(v.string()),
      mounts: texts,
      volumes: v.optional(list(ImageVolumeSchema)),
      hostMounts: v.optional(list(HostMountSchema)),
      hostname: v.optional(v.string()),
      keep: v.optional(v.boolean()),
      /** Run the process in the background: the program to start returns at once. */
      detach: v.optional(v.boolean()),
      remove: v.optional(v.boolean()),
      keepsInput: v.optional(v.boolean()),
      terminal: v.optional(v.boolean()),
      terminalSize: v.optional(TerminalSizeSchema),
      network: v.optional(v.string()),
      capAdd: texts,
      capDrop: texts,
      securityOpts: texts,
      pidsLimit: v.optional(v.pipe(v.number(), v.safeInteger())),
      /** Maximum memory in bytes. */
      memoryBytes: v.optional(count),
      /** Maximum number of processors, 0.5 for half of one. */
      cpus: v.optional(v.number()),
      /** `PATH[:OPTIONS]`, as in podman. */
      tmpfs: texts,
      capabilities,
    }),
    result: StatusSchema,
    event: v.union([StartEventSchema, PullEventSchema]),
    reply,
  }),
  'containers.exec': conversation({
    method: 'POST',
    path: '/v1/containers/exec',
    summary: 'Let the client start a further process in a running container.',
    request: v.strictObject({
      id: text,
      command: list(v.string()),
      env: variables,
      workingDir: v.optional(v.string()),
      user: v.optional(v.string()),
      terminal: v.optional(v.boolean()),
      terminalSize: v.optional(TerminalSizeSchema),
      /** Run the process in the background: the program to start returns at once. */
      detach: v.optional(v.boolean()),
      capabilities,
    }),
    result: StatusSchema,
    event: StartEventSchema,
    reply,
  }),
}
