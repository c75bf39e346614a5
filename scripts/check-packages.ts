// Checks the packages as `npm pack` creates them, after `npm run build`: they contain only files that can be imported or run, and
// their declarations import only existing modules.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGES = fileURLToPath(new URL('../packages/', import.meta.url))

/** Files that a package may contain, in addition to those that its package.json names: licences, commands, bundles with their maps, types, the web page. */
const ALLOWED =
  /^(?:LICENSE|README\.md|package\.json|bin\/[a-z-]+\.c?js|man\/[a-z.-]+\.[158]|dist\/[\w-]+\.(?:js|js\.map|d\.ts|txt)|dist\/page\/[\w-]+\.(?:html|js|css|svg|txt))$/

/** Returns the problems of the list of files of a package. `extra` are files that its package.json names. */
export function findPackageProblems(
  files: readonly string[],
  extra: readonly string[],
  read: (file: string) => string,
): string[] {
  const unknown = files.filter((file) => !ALLOWED.test(file) && !extra.includes(file))
  const missing = files
    .filter((file) => file.endsWith('.d.ts'))
    .flatMap((file) =>
      [...read(file).matchAll(/(?:from|import\()\s*["'](\.[^"']+)["']/g)]
        .map((match) => join(dirname(file), (match[1] ?? '').replace(/\.js$/, '.d.ts')))
        .filter((target) => !files.includes(target))
        .map((target) => `${file} needs ${target}, which does not exist`),
    )
  const mapped = files.filter((file) => file.endsWith('.js.map'))
  const withoutSources = mapped.filter((file) => !read(file).includes('"sourcesContent":["'))
  return [
    ...unknown.map((file) => `${file} is of no use to anybody`),
    ...missing,
    ...withoutSources.map((file) => `${file} has no sources in it`),
    ...(mapped.length === 0 ? ['there are no source maps'] : []),
  ]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of ['loam', 'loamd']) {
    const directory = join(PACKAGES, name)
    const { files: named } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as {
      files: string[]
    }
    const extra = named.filter((file) => existsSync(join(directory, file)) && !['bin', 'dist'].includes(file))
    const problems = findPackageProblems(packedFiles(directory), extra, (file) =>
      readFileSync(join(directory, file), 'utf8'),
    )
    for (const problem of problems) process.stderr.write(`${name}: ${problem}\n`)
    process.stdout.write(`${name}: ${problems.length} problems\n`)
    if (problems.length > 0) process.exitCode = 1
  }
}

function packedFiles(directory: string): string[] {
  const json = execFileSync('npm', ['pack', '--dry-run', '--json', '--silent', '--ignore-scripts'], {
    cwd: directory,
    encoding: 'utf8',
  })
  // One object for each package: an array, or since npm 12 an object by name.
  const listed = Object.values(JSON.parse(json) as Record<string, { files: { path: string }[] }>)
  return listed.flatMap(({ files }) => files.map(({ path }) => path))
}
