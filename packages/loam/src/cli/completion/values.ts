import type { Option } from 'commander'

/**
 * What a word may become, beyond a fixed list: names of the store, which are looked up; or files, which the shell knows. `mounted-files`: the word
 * goes on behind the file; `paths`: files that are a part of a word, which shells do not complete.
 */
export type Kind =
  | 'images'
  | 'containers'
  | 'container-paths'
  | 'snapshots'
  | 'files'
  | 'directories'
  | 'mounted-files'
  | 'paths'

/** What the rest of a word may become. */
export interface ValueCompletion {
  /** The part of the word that stays. */
  readonly kept?: string
  readonly words?: readonly string[]
  readonly kinds?: readonly Kind[]
}

/** What the value of an option may become: names or files, one of some words, or what depends on the part that is typed. */
export type Completion = Kind | readonly string[] | ((typed: string) => ValueCompletion)

const COMPLETIONS = new WeakMap<Option, Completion>()

/** States what shells complete the value of an option to. Nothing is offered for the value of any other one: a new ID, a size. */
export function completes(option: Option, completion: Completion): Option {
  COMPLETIONS.set(option, completion)
  return option
}

/** Returns what the value of an option may become. */
export function completionOf(option: Option, typed: string): ValueCompletion {
  const completion = option.argChoices ?? COMPLETIONS.get(option) ?? []
  if (typeof completion === 'function') return completion(typed)
  return typeof completion === 'string' ? { kinds: [completion] } : { words: completion }
}

/** Completes a word of keys and values, `a=x,b=y`: the keys, and the values as a function of the key and of the whole word says. */
export function keyed(
  keys: readonly string[],
  valueOf: (key: string, word: string) => ValueCompletion,
): (typed: string) => ValueCompletion {
  return (typed) => {
    const kept = typed.slice(0, typed.lastIndexOf(',') + 1)
    const [, key] = /^([^=]+)=/.exec(typed.slice(kept.length)) ?? []
    return key === undefined ? { kept, words: keys } : { ...valueOf(key, typed), kept: `${kept}${key}=` }
  }
}
