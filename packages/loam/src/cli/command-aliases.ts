/** Groups of docker's and podman's commands, and Loam's own commands for them. */
const GROUPS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  image: {
    ...{ ls: 'images', list: 'images', rm: 'rmi', remove: 'rmi', import: 'put', unmount: 'umount' },
    ...same('pull', 'push', 'tag', 'untag', 'inspect', 'history', 'save', 'load', 'mount', 'umount', 'diff'),
  },
  container: {
    ...{ ls: 'ps', list: 'ps', ps: 'ps', remove: 'rm', unmount: 'umount', create: 'provision' },
    ...same('run', 'exec', 'logs', 'stop', 'kill', 'start', 'rm', 'cp', 'diff', 'commit', 'inspect', 'mount'),
    ...same('umount', 'export'),
  },
  system: { df: 'df', info: 'doctor', events: 'events' },
  // Its words are all others.
  volume: {},
}
/** Words of one command alone. */
const WORDS: Readonly<Record<string, string>> = { ls: 'images', list: 'images', unmount: 'umount' }

/**
 * Returns a command line in Loam's own words: `image ls` is `images`. `index` is that of the command's name. Nothing that removes data
 * is reached by a word that means something else elsewhere: `image prune` and `system prune` stay unknown.
 */
export function translateWords(args: readonly string[], index: number): readonly string[] {
  const [first = '', second = ''] = args.slice(index)
  const own = findIn(wordsOfGroup(first), second)
  if (own !== undefined) return [...args.slice(0, index), own, ...args.slice(index + 2)]
  const word = findIn(WORDS, first)
  return word === undefined ? args : [...args.slice(0, index), word, ...args.slice(index + 1)]
}

/** Returns whether a word is that of a group of commands. */
export function isGroup(word: string): boolean {
  return Object.hasOwn(GROUPS, word)
}

/** Returns the second words of a group that are understood, and Loam's own command for each. */
export function wordsOfGroup(group: string): Readonly<Record<string, string>> {
  return findIn(GROUPS, group) ?? {}
}

/** Returns an own entry of a table. */
export function findIn<Value>(table: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined
}

function same(...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, name]))
}
