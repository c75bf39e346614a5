// Holds the folders of packages/loam/src to the one direction of DESIGN §4. Fails for an import against
// the order, for an import past a folder's index.ts, for siblings that know each other, for a folder
// that the table does not name, for a pure folder that reaches files, processes or the network, and for
// a lock's file that is removed past its lock.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** In the order of the flow: a folder may import from those before it. */
export const FOLDERS = [
  'errors',
  'activity',
  'streams',
  'image',
  'options',
  'linux',
  'compression',
  'tar',
  'tree',
  'erofs',
  'lazy-index',
  'policy',
  'content',
  'metadata',
  'registry',
  'transform',
  'layers',
  'sources',
  'stores',
  'backends',
  'snapshotter',
  'provisioner',
  'exports',
  'maintenance',
  'runtime',
  'config',
  'nodes',
  'images',
  'lazy',
  'containers',
  'app',
  'api',
  'client',
  'cli',
  'testing',
] as const

/** The exports: to users, and to the daemon. */
const TOP = ['index.ts', 'internal.ts']

/** Folders that compute and never act, with the Node modules that they may still use. */
const PURE: Record<string, readonly string[]> = {
  errors: [],
  activity: ['node:async_hooks'],
  streams: [],
  image: ['node:crypto'],
  options: [],
  tar: [],
  tree: [],
  erofs: ['node:crypto'],
  'lazy-index': ['node:crypto', 'node:zlib'],
  policy: ['node:crypto'],
  runtime: [],
  api: [],
}

/** Folders whose children are alternatives: one never imports another. */
const ALTERNATIVES = ['backends', 'stores']

/** Node modules that reach the kernel or other programs, and the only folders that may. */
const ONLY_IN: Record<string, readonly string[]> = {
  'node:child_process': ['linux', 'testing'],
  koffi: ['linux', 'compression'],
  undici: ['registry'],
  'node:sqlite': ['metadata'],
  commander: ['cli'],
}

/** Folders that run in a worker alone. Others know their types and start them as a thread; `index.ts` has nothing but types. */
const ONLY_TYPES_OF = ['transform']

const VALUE_IMPORT =
  /(?:^|\n)\s*(?:import|export)\s+(?!type\b)[^'";]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s[^'"]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g

/** The file of a lock is removed by its exclusive holder alone: `FileLock.remove` knows whether that is so. */
const LOCK_REMOVAL = /\b(?:unlinkIfThere|unlinkSync|unlink|rmSync|rm)\(\s*[\w.#]*lock(?:\.path|\w*\()/gi

/** Returns the problems of one file; `file` is relative to src. */
export function findViolations(file: string, text: string): string[] {
  if (!file.includes('/')) {
    return TOP.includes(file) ? [] : [`${file}: only ${TOP.join(' and ')} are at the top`]
  }
  const folder = file.split('/')[0] ?? ''
  if (!isFolder(folder)) return [`${file}: the table in scripts/check-boundaries.ts has no folder ${folder}`]
  if (file.endsWith('.test.ts')) return []
  const problems = specifiersOf(text, IMPORT).map((specifier) =>
    specifier.startsWith('.')
      ? checkRelative(file, folder, normalize(join(dirname(file), specifier)))
      : checkModule(folder, specifier),
  )
  const values = specifiersOf(text, VALUE_IMPORT).map((specifier) => checkValues(file, folder, specifier))
  const locks = [...text.matchAll(LOCK_REMOVAL)].map(
    ([call]) => `removes a lock past FileLock.remove: ${call}`,
  )
  return [...problems, ...values, ...locks].flatMap((problem) =>
    problem === undefined ? [] : [`${file}: ${problem}`],
  )
}

function specifiersOf(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '')
}

/** An import at run time is loaded by the importing thread: the main thread, except from within such a folder. */
function checkValues(file: string, folder: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined
  const target = normalize(join(dirname(file), specifier))
  const targetFolder = target.split('/')[0] ?? ''
  if (!ONLY_TYPES_OF.includes(targetFolder)) return undefined
  if (folder === targetFolder && file !== `${folder}/index.ts`) return undefined
  return `loads ${target}, and ${targetFolder}/ runs in a worker alone: only its types may be imported`
}

function checkRelative(file: string, folder: string, target: string): string | undefined {
  if (target.endsWith('.test.ts')) return `imports the test ${target}`
  const targetFolder = target.split('/')[0] ?? ''
  if (targetFolder === folder) return checkAlternatives(file, folder, target)
  if (!isFolder(targetFolder)) return `imports ${target}, which is outside of src's folders`
  if (FOLDERS.indexOf(targetFolder) > FOLDERS.indexOf(folder as (typeof FOLDERS)[number])) {
    return `${folder}/ may not import ${targetFolder}/, which comes after it`
  }
  if (target !== `${targetFolder}/index.ts`) return `enters ${targetFolder}/ past its index.ts: ${target}`
  return undefined
}

function checkAlternatives(file: string, folder: string, target: string): string | undefined {
  if (!ALTERNATIVES.includes(folder)) return undefined
  const [own, other] = [file, target].map((path) =>
    path.split('/').length > 2 ? path.split('/')[1] : undefined,
  )
  return own !== undefined && other !== undefined && own !== other
    ? `${folder}/${own} may not know its sibling ${folder}/${other}`
    : undefined
}

function checkModule(folder: string, specifier: string): string | undefined {
  const allowedIn = ONLY_IN[specifier]
  if (allowedIn !== undefined && !allowedIn.includes(folder)) {
    return `${specifier} may be used only in ${allowedIn.join(', ')}`
  }
  const pure = PURE[folder]
  if (pure !== undefined && specifier.startsWith('node:') && !pure.includes(specifier)) {
    return `${folder}/ is pure and may not use ${specifier}`
  }
  return undefined
}

function isFolder(name: string): name is (typeof FOLDERS)[number] {
  return (FOLDERS as readonly string[]).includes(name)
}

if (import.meta.main) {
  const src = fileURLToPath(new URL('../packages/loam/src/', import.meta.url))
  const files = globSync('**/*.ts', { cwd: src })
  const problems = files.flatMap((file) => findViolations(file, readFileSync(join(src, file), 'utf8')))
  for (const problem of problems) console.error(problem)
  console.log(`${files.length} modules in ${relative(process.cwd(), src)}, ${problems.length} problems`)
  if (problems.length > 0 || files.length === 0) process.exitCode = 1
}
