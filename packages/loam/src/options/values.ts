import { LoamError } from '../errors/index.ts'
import { NAMED_TYPES } from '../image/index.ts'
import { checkOptionNames } from './names.ts'

/** The last time that a date has, in milliseconds since 1970 (ECMA-262, 21.4.1.1). */
export const MAX_TIME_MS = 8.64e15

/** All bits of the mode of a file but those of its type. */
export const MAX_MODE = 0o7777

/** A kind of values of options. */
export interface OptionKind {
  /** What is expected, as in "is not a list of texts". */
  readonly what: string
  readonly has: (value: unknown) => boolean
}

const flag: OptionKind = { what: 'true or false', has: (value) => typeof value === 'boolean' }
/** Any text. */
export const text: OptionKind = { what: 'a text', has: (value) => typeof value === 'string' }
const filledText: OptionKind = {
  what: 'a text that is not empty',
  has: (value) => typeof value === 'string' && value !== '',
}
const number: OptionKind = {
  what: 'a number',
  has: (value) => typeof value === 'number' && Number.isFinite(value),
}
const wholeNumber: OptionKind = { what: 'a whole number', has: Number.isSafeInteger }
const count = wholeNumberTo(Number.MAX_SAFE_INTEGER)
const time = wholeNumberTo(MAX_TIME_MS)
const fileMode = wholeNumberTo(MAX_MODE)
const texts = listOf(text)
const object: OptionKind = { what: 'an object', has: (value) => isObject(value) && !Array.isArray(value) }

/** Functions, objects of Loam, and what is checked where it is used. */
const any: OptionKind = { what: 'anything', has: () => true }

type LastOf<Args extends readonly unknown[]> =
  Required<Args> extends readonly [...unknown[], infer Last] ? Last : never
type NamesOf<Options> = Options extends string | readonly unknown[] ? never : keyof Options & string

/** The names of the options of all calls of some objects. */
export type OptionsOf<Door> = Door extends unknown
  ? {
      [Call in keyof Door]: Door[Call] extends (...args: infer Args) => unknown
        ? NamesOf<LastOf<Args>>
        : never
    }[keyof Door]
  : never

/** What the options of the library and of its client may be, by name. A name has one meaning in all calls, but for those that `checkOptions` is given. */
export const OPTION_KINDS = {
  ...named(
    flag,
    'all allPlatforms detach dryRun follow followsLink force index isReadOnly keep keepsInput keepsOwners lazy local push',
  ),
  ...named(flag, 'referrers refresh remove repair replace replaceIndex terminal times'),
  ...named(count, 'largest layer memoryBytes sizeBytes tail timeoutMs'),
  ...named(time, 'createdAtMs latestMs'),
  ...named(filledText, 'authFile base certsDir lazyIndex output path sandbox to workDir'),
  // What is wrong with a name, and what there is, is told where they are used.
  ...named(text, 'backend id'),
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
} satisfies Readonly<Record<string, OptionKind>>
const OPTIONS: Readonly<Record<string, OptionKind>> = OPTION_KINDS
const OPTION_NAMES = Object.keys(OPTION_KINDS)

/**
 * Checks the names and the values of the options of a call, which the compiler knows only for programs in TypeScript: otherwise `force: 'false'` would be
 * true, an unknown format another one, and a name with a slip without effect. Undefined is the same as left out. `own` has the options that this call
 * alone has, or that mean something else there. @throws USAGE
 */
export function checkOptions(
  call: string,
  options: unknown,
  own: Readonly<Record<string, OptionKind>> = {},
): void {
  if (!isPlainObject(options) || isRequest(options)) return
  checkOptionNames(call, options, [...Object.keys(own), ...OPTION_NAMES])
  for (const [name, value] of Object.entries(options)) {
    const kind = own[name] ?? OPTIONS[name]
    if (value === undefined || kind === undefined || kind.has(value)) continue
    throw new LoamError('USAGE', `call ${call}: ${name} is not ${kind.what}`, { details: { field: name } })
  }
}

type WordOf<Words extends string> = Words extends `${infer Word} ${infer Rest}` ? Word | WordOf<Rest> : Words

function named<const Words extends string>(
  kind: OptionKind,
  words: Words,
): Readonly<Record<WordOf<Words>, OptionKind>> {
  return Object.fromEntries(words.split(' ').map((name) => [name, kind])) as Record<WordOf<Words>, OptionKind>
}

function wholeNumberTo(max: number): OptionKind {
  return {
    what: max === Number.MAX_SAFE_INTEGER ? 'a whole number from 0' : `a whole number from 0 to ${max}`,
    has: (value) => Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= max,
  }
}

function listOf(item: OptionKind): OptionKind {
  return {
    what: `a list, each of which is ${item.what}`,
    has: (value) => Array.isArray(value) && value.every((each) => item.has(each)),
  }
}

/** One of some texts. */
export function oneOf(values: readonly string[]): OptionKind {
  return { what: `one of ${values.join(', ')}`, has: (value) => values.some((each) => each === value) }
}

function either(one: OptionKind, other: OptionKind): OptionKind {
  return { what: `${one.what} or ${other.what}`, has: (value) => one.has(value) || other.has(value) }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/** A request of a framework, which takes the place of the name of an image. */
function isRequest(value: Readonly<Record<string, unknown>>): boolean {
  return ['docker', 'appc', 'oci'].some((type) => isObject(value[type]))
}

/** An object of its own, and not a stream or a signal. */
function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (!isObject(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
