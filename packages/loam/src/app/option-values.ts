import { checkOptionNames, LoamError } from '../errors/index.ts'
import type { ContainerFiles, ContainerProcesses, Containers } from '../containers/index.ts'
import { EXPORT_FORMATS } from '../exports/index.ts'
import { NAMED_TYPES } from '../image/index.ts'
import { type Images, SAVE_FORMATS } from '../images/index.ts'
import type { Snapshots } from './snapshots.ts'
import type { StoreCare } from './store-care.ts'

/** The last time that a date has, in milliseconds since 1970 (ECMA-262, 21.4.1.1). */
const MAX_TIME_MS = 8.64e15

/** A kind of values of options. */
interface Kind {
  /** What is expected, as in "is not a list of texts". */
  readonly what: string
  readonly has: (value: unknown) => boolean
}

const flag: Kind = { what: 'true or false', has: (value) => typeof value === 'boolean' }
const text: Kind = { what: 'a text', has: (value) => typeof value === 'string' }
const filledText: Kind = {
  what: 'a text that is not empty',
  has: (value) => typeof value === 'string' && value !== '',
}
const number: Kind = { what: 'a number', has: (value) => typeof value === 'number' && Number.isFinite(value) }
const wholeNumber: Kind = { what: 'a whole number', has: Number.isSafeInteger }
const count = wholeNumberTo(Number.MAX_SAFE_INTEGER)
const time = wholeNumberTo(MAX_TIME_MS)
const fileMode = wholeNumberTo(0o7777)
const texts = listOf(text)
const object: Kind = { what: 'an object', has: (value) => isObject(value) && !Array.isArray(value) }

/** Functions, objects of Loam, and what is checked where it is used or by `IN_CALLS`. */
const any: Kind = { what: 'anything', has: () => true }

type Door = Images | Containers | ContainerFiles | ContainerProcesses | Snapshots | StoreCare
type LastOf<Args extends readonly unknown[]> =
  Required<Args> extends readonly [...unknown[], infer Last] ? Last : never
type NamesOf<Options> = Options extends string | readonly unknown[] ? never : keyof Options & string
type OptionsOf<One> = One extends unknown
  ? {
      [Call in keyof One]: One[Call] extends (...args: infer Args) => unknown ? NamesOf<LastOf<Args>> : never
    }[keyof One]
  : never
/** The names of all options. */
type OptionName = OptionsOf<Door>

/** What the options of the library may be, by name. A name has one meaning in all calls, but for those of `IN_CALLS`. */
const KINDS = {
  ...named(
    flag,
    'all allPlatforms detach dryRun follow followsLink force index isReadOnly keep keepsInput keepsOwners lazy local push',
  ),
  ...named(flag, 'referrers refresh remove repair replace replaceIndex terminal times'),
  ...named(count, 'largest layer memoryBytes sizeBytes tail timeoutMs'),
  ...named(time, 'createdAtMs latestMs'),
  ...named(filledText, 'authFile backend base certsDir id lazyIndex output path sandbox to workDir'),
  ...named(text, 'author entrypoint hostname message network shell user workingDir'),
  ...named(texts, 'capAdd capDrop changes command env mounts securityOpts tmpfs'),
  ...named(listOf(filledText), 'insecure known'),
  ...named(listOf(object), 'hostMounts volumes'),
  ...named(object, 'commandInfo platform terminalSize userNamespace'),
  ...named(
    any,
    'capabilities client config credentials credentialsFor format image imageSocket isRemote mayBeArtifact',
  ),
  ...named(
    any,
    'namespace onCheck onCopy onEvent onLeft onNote onProgress onPush onSave onStart signal socket start',
  ),
  ...named(any, 'starter stderr stdin stdout type'),
  cpus: number,
  excluded: listOf(either(filledText, object)),
  imageType: oneOf(NAMED_TYPES),
  mode: fileMode,
  pidsLimit: wholeNumber,
} satisfies Readonly<Record<OptionName, Kind>>
const OPTIONS: Readonly<Record<string, Kind>> = KINDS
const OPTION_NAMES = Object.keys(KINDS)

/** The same for options whose meaning depends on the call. */
const IN_CALLS: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  export: { format: oneOf(EXPORT_FORMATS) },
  save: { format: oneOf(SAVE_FORMATS) },
  prune: { type: oneOf(['docker', 'appc']) },
}

/**
 * Checks the names and the values of the options of a call, which the compiler knows only for programs in TypeScript: otherwise `force: 'false'` would be true, an unknown
 * format another one, and a name with a slip without effect. Undefined is the same as left out. @throws USAGE
 */
export function checkOptions(call: string, options: unknown): void {
  if (!isPlainObject(options) || isRequest(options)) return
  const own = IN_CALLS[call] ?? {}
  checkOptionNames(call, options, [...Object.keys(own), ...OPTION_NAMES])
  for (const [name, value] of Object.entries(options)) {
    const kind = own[name] ?? OPTIONS[name]
    if (value === undefined || kind === undefined || kind.has(value)) continue
    throw new LoamError('USAGE', `call ${call}: ${name} is not ${kind.what}`, { details: { field: name } })
  }
}

type WordOf<Words extends string> = Words extends `${infer Word} ${infer Rest}` ? Word | WordOf<Rest> : Words

function named<const Words extends string>(kind: Kind, words: Words): Readonly<Record<WordOf<Words>, Kind>> {
  return Object.fromEntries(words.split(' ').map((name) => [name, kind])) as Record<WordOf<Words>, Kind>
}

function wholeNumberTo(max: number): Kind {
  return {
    what: max === Number.MAX_SAFE_INTEGER ? 'a whole number from 0' : `a whole number from 0 to ${max}`,
    has: (value) => Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= max,
  }
}

function listOf(item: Kind): Kind {
  return {
    what: `a list, each of which is ${item.what}`,
    has: (value) => Array.isArray(value) && value.every((each) => item.has(each)),
  }
}

function oneOf(values: readonly string[]): Kind {
  return { what: `one of ${values.join(', ')}`, has: (value) => values.some((each) => each === value) }
}

function either(one: Kind, other: Kind): Kind {
  return { what: `${one.what} or ${other.what}`, has: (value) => one.has(value) || other.has(value) }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** A request of a framework, which takes the place of the name of an image. */
function isRequest(value: object): boolean {
  return 'docker' in value || 'appc' in value || 'oci' in value
}

/** An object of its own, and not a stream or a signal. */
function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (!isObject(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
