/*
 * Filters of system calls. A profile is written in the form of `docker run --security-opt seccomp=FILE` and podman's: rules with conditions
 * on the container's capabilities, the machine's architecture and the kernel. The runtime gets the rules whose conditions hold (runtime-spec
 * config-linux.md, "Seccomp").
 */
import * as v from 'valibot'
import { LoamError, toLoamError } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'

/** Conditions of a rule: all of them have to hold. */
interface RuleConditions {
  readonly arches?: readonly string[] | null | undefined
  readonly caps?: readonly string[] | null | undefined
  readonly minKernel?: string | null | undefined
}

interface RuleArgument {
  readonly index: number
  readonly value: number
  readonly valueTwo?: number | null | undefined
  readonly op: string
}

export interface SeccompRule {
  readonly names?: readonly string[] | null | undefined
  /** Older profiles have a single name. */
  readonly name?: string | null | undefined
  readonly action: string
  readonly errnoRet?: number | null | undefined
  readonly args?: readonly RuleArgument[] | null | undefined
  readonly includes?: RuleConditions | null | undefined
  readonly excludes?: RuleConditions | null | undefined
}

interface ArchitectureMapping {
  readonly architecture: string
  readonly subArchitectures?: readonly string[] | null | undefined
}

export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number | null | undefined
  readonly architectures?: readonly string[] | null | undefined
  readonly archMap?: readonly ArchitectureMapping[] | null | undefined
  readonly flags?: readonly string[] | null | undefined
  readonly syscalls?: readonly SeccompRule[] | null | undefined
}

/** The facts that the conditions of a profile refer to. */
export interface SeccompTarget {
  /** Architecture in OCI's words. */
  readonly architecture: string
  /** Version of the kernel, as uname(1) reports it. */
  readonly kernel: string
  /** The container's bounding set. */
  readonly capabilities: readonly string[]
}

/** `linux.seccomp` of an OCI runtime configuration. */
export interface RuntimeSeccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures?: readonly string[]
  readonly flags?: readonly string[]
  readonly syscalls: readonly Record<string, unknown>[]
}

/** Go's JSON writes null for absent fields. */
const optional = <const Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)
const word = v.pipe(v.string(), v.nonEmpty('is empty'))
const number = v.pipe(v.number(), v.integer('is not a whole number'), v.minValue(0, 'is negative'))
const ActionSchema = v.picklist(
  ['KILL', 'KILL_PROCESS', 'KILL_THREAD', 'TRAP', 'ERRNO', 'TRACE', 'ALLOW', 'LOG'].map(
    (name) => `SCMP_ACT_${name}`,
  ),
  'is not an action that Loam passes on (SCMP_ACT_NOTIFY needs a program that answers)',
)
const ConditionsSchema = v.strictObject({
  arches: optional(v.array(word)),
  caps: optional(v.array(word)),
  minKernel: optional(v.pipe(v.string(), v.regex(/^\d{1,4}\.\d{1,4}$/, 'is not KERNEL.MAJOR'))),
})
const RuleSchema = v.pipe(
  v.strictObject({
    names: optional(v.pipe(v.array(word), v.nonEmpty('is empty'))),
    name: optional(v.string()),
    action: ActionSchema,
    errnoRet: optional(number),
    /** The name of `errnoRet`, for messages. */
    errno: optional(v.string()),
    args: optional(
      v.array(
        v.strictObject({
          index: v.pipe(number, v.maxValue(5, 'is greater than 5')),
          value: number,
          valueTwo: optional(number),
          op: v.pipe(v.string(), v.regex(/^SCMP_CMP_[A-Z_]+$/, 'is not a comparison')),
        }),
      ),
    ),
    comment: optional(v.string()),
    includes: optional(ConditionsSchema),
    excludes: optional(ConditionsSchema),
  }),
  v.check(({ name, names }) => isPresent(name) !== isPresent(names), 'needs either names or name'),
  v.check(
    ({ errno, errnoRet }) => !isPresent(errno) || isPresent(errnoRet),
    'has errno; write its number as errnoRet',
  ),
)
const ProfileSchema: v.GenericSchema<unknown, SeccompProfile> = v.pipe(
  v.strictObject({
    defaultAction: ActionSchema,
    defaultErrnoRet: optional(number),
    defaultErrno: optional(v.string()),
    architectures: optional(v.array(word)),
    archMap: optional(
      v.array(v.strictObject({ architecture: word, subArchitectures: optional(v.array(word)) })),
    ),
    flags: optional(v.array(word)),
    syscalls: optional(v.array(RuleSchema)),
  }),
  v.check(
    ({ architectures, archMap }) => (architectures ?? []).length === 0 || (archMap ?? []).length === 0,
    'has both architectures and archMap, exactly one is required',
  ),
)

function isPresent(value: string | number | readonly string[] | null | undefined): boolean {
  return value !== undefined && value !== null && value !== ''
}

/** Reads a profile. `what` names it in messages. @throws USAGE */
export function parseSeccompProfile(json: Buffer, what: string): SeccompProfile {
  try {
    return check(ProfileSchema, parseStrictJson(json, what), what)
  } catch (error) {
    const { message } = toLoamError(error, 'read')
    throw new LoamError('USAGE', `read seccomp profile ${what}: ${message}`, {
      cause: error,
      hint: 'Use the format of docker and podman: {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [...], "action": "SCMP_ACT_ALLOW"}]}.',
    })
  }
}

/** Returns the filter of a profile for a container. */
export function createSeccomp(profile: SeccompProfile, target: SeccompTarget): RuntimeSeccomp {
  const { defaultAction, defaultErrnoRet, flags } = profile
  const architectures = architecturesOf(profile, target)
  return {
    defaultAction,
    ...(isNumber(defaultErrnoRet) ? { defaultErrnoRet } : {}),
    ...(architectures.length > 0 ? { architectures } : {}),
    ...(flags === undefined || flags === null ? {} : { flags }),
    syscalls: (profile.syscalls ?? []).filter((rule) => isFor(rule, target)).map(toRuntimeRule),
  }
}

/** libseccomp's names by OCI's. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  386: 'SCMP_ARCH_X86',
  amd64: 'SCMP_ARCH_X86_64',
  arm: 'SCMP_ARCH_ARM',
  arm64: 'SCMP_ARCH_AARCH64',
  loong64: 'SCMP_ARCH_LOONGARCH64',
  ppc64le: 'SCMP_ARCH_PPC64LE',
  riscv64: 'SCMP_ARCH_RISCV64',
  s390x: 'SCMP_ARCH_S390X',
}

/** Empty: the runtime uses only the machine's own architecture. */
function architecturesOf(
  { architectures, archMap }: SeccompProfile,
  { architecture }: SeccompTarget,
): string[] {
  const own = Object.hasOwn(ARCHITECTURES, architecture) ? ARCHITECTURES[architecture] : undefined
  const mapping = archMap?.find((candidate) => candidate.architecture === own)
  if (mapping === undefined) return [...(architectures ?? [])]
  return [mapping.architecture, ...(mapping.subArchitectures ?? [])]
}

function isFor({ includes, excludes }: SeccompRule, target: SeccompTarget): boolean {
  // Profiles use Go's names of architectures.
  const arch = target.architecture === '386' ? 'x86' : target.architecture
  const hasKernel = (least: string | null | undefined) =>
    isPresent(least) && isAtLeast(target.kernel, least ?? '')
  if (excludes?.arches?.includes(arch) === true || hasKernel(excludes?.minKernel)) return false
  if (excludes?.caps?.some((each) => target.capabilities.includes(each)) === true) return false
  const needed = includes?.arches ?? []
  if (needed.length > 0 && !needed.includes(arch)) return false
  if (isPresent(includes?.minKernel) && !hasKernel(includes?.minKernel)) return false
  return (includes?.caps ?? []).every((each) => target.capabilities.includes(each))
}

function isAtLeast(kernel: string, least: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10))
  const [leastMajor = 0, leastMinor = 0] = least.split('.').map(Number)
  return major > leastMajor || (major === leastMajor && minor >= leastMinor)
}

function toRuntimeRule({ names, name, action, errnoRet, args }: SeccompRule): Record<string, unknown> {
  return {
    names: names ?? [name],
    action,
    ...(isNumber(errnoRet) ? { errnoRet } : {}),
    ...(args === undefined || args === null || args.length === 0
      ? {}
      : {
          args: args.map(({ index, value, valueTwo, op }) => ({ index, value, valueTwo: valueTwo ?? 0, op })),
        }),
  }
}

function isNumber(value: number | null | undefined): value is number {
  return value !== undefined && value !== null
}
