// Documents: every test that they name exists, lines end at 120 characters, and banned words stay out.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { containerdConfig, dockerConfig } from '../packages/loam/src/nodes/index.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(`${root}${path}`, 'utf8')

/** Returns a document with each paragraph and each item of a list on one line. */
const readUnwrapped = (path: string) => read(path).replaceAll(/([^\n])\n *(?![\n#|\-`]|\d+\.)/g, '$1 ')

/** Finds the file of tests that is named by `e2e/store`, `loamd/e2e/grpc`, `loamd/command/channel`, `tree/tree`, `testing/store-conformance` or `faults`. */
function findTests(name: string): string[] {
  if (name === 'faults') return globSync('packages/loam/test/faults/**/*.ts', { cwd: root })
  const daemon = /^loamd\/(.*)$/.exec(name)?.[1]
  const candidates =
    daemon === undefined
      ? [
          `packages/loam/src/${name}.ts`,
          `packages/loam/src/${name}.test.ts`,
          `packages/loam/test/${name}.test.ts`,
        ]
      : [`packages/loamd/test/${daemon}.test.ts`, `packages/loamd/src/${daemon}.test.ts`]
  return candidates.filter((path) => existsSync(`${root}${path}`))
}

/** Titles of tests in a file; of groups of faults their ids; of tables of cases the names of the cases. */
function titlesIn(text: string): string[] {
  const calls = text.matchAll(
    /(?:test|check|describe|conformance)\(\s*(?:[^'"`(]+ \? )?(['"`])((?:\\.|(?!\1).)*)\1(?:[\s:]+(['"`])((?:(?!\3).)*)\3)?/gis,
  )
  const cases = text.matchAll(/^\s+(?:\[?'((?:[^'\\]|\\.)+)'[:,]|id: '([^']+)',)/gm)
  return [
    ...[...calls].flatMap((match) => [match[2] ?? '', match[4] ?? '']),
    ...[...cases].flatMap((match) => [match[1] ?? '', match[2] ?? '']),
  ]
}

/** Checks all that a document names as `file`: start of a title. Returns how many there are. */
function checkNamedTests(document: string): number {
  const named = [...readUnwrapped(document).matchAll(/`([a-z0-9]+(?:\/[a-z0-9-]+)*)`: ([^;|)\n]+)/g)]
  for (const [, file = '', words = ''] of named) {
    const paths = findTests(file)
    assert.ok(paths.length > 0, `${document} names ${file}`)
    const titles = paths.flatMap((path) => titlesIn(read(path)))
    // Several of one file are divided by ` / `.
    for (const part of words.split(' / ')) {
      const title = part
        .trim()
        .replace(/\.$/, '')
        .replace(/ \([^)]*$/, '')
      assert.ok(
        titles.some((candidate) => candidate.startsWith(title)),
        `${document}: ${file} has no test ${JSON.stringify(title)}`,
      )
    }
  }
  return named.length
}

test('docs/mesos.md names only tests that exist, and one for each test of Mesos', () => {
  assert.ok(checkNamedTests('docs/mesos.md') > 150)
  const text = readUnwrapped('docs/mesos.md')
  const rows = text
    .slice(text.indexOf('## Tests of Mesos'))
    .split('\n')
    .filter((line) => line.startsWith('- '))
  assert.ok(rows.length > 50)
  for (const row of rows) assert.match(row, /`[a-z0-9]+\/[a-z0-9-]+`|none:/)
})

test('docs/security.md has a row with a test for each threat, and names only tests that exist', () => {
  checkNamedTests('docs/security.md')
  const rows = new Map(
    [...readUnwrapped('docs/security.md').matchAll(/^- \*\*([UFNSTLCPWDB]\d+) .*$/gm)].map((match) => [
      match[1],
      match[0],
    ]),
  )
  for (const [letter, count] of Object.entries({
    U: 14,
    F: 11,
    N: 12,
    S: 9,
    T: 6,
    L: 8,
    C: 9,
    P: 5,
    W: 2,
    D: 4,
    B: 5,
  })) {
    for (let number = 1; number <= count; number += 1)
      assert.match(
        rows.get(`${letter}${number}`) ?? '',
        /`[a-z0-9]+(?:\/[a-z0-9-]+)*`: /,
        `${letter}${number}`,
      )
  }
})

test('ARCHITECTURE.md tells eleven walks, each through files that exist', () => {
  const section = /## Eleven walks\n(.*?)\n## /s.exec(read('ARCHITECTURE.md'))?.[1] ?? ''
  const walks = section.split(/^- /m).slice(1)
  assert.equal(walks.length, 11)
  for (const walk of walks) {
    const files = [...walk.matchAll(/`([^`]+\.ts)`/g)].map((match) => match[1] ?? '')
    assert.ok(files.length > 4, walk)
    for (const file of files) {
      const path = file.startsWith('loamd/')
        ? `packages/loamd/src/${file.slice(6)}`
        : `packages/loam/src/${file}`
      assert.ok(
        existsSync(`${root}${path}`),
        `${walk.split(':')[0]} goes through ${file}, which does not exist`,
      )
    }
  }
})

/** All documents but the copies that a build leaves in the packages, which git ignores. Without git all are read. */
function listDocuments(): string[] {
  const found = globSync(['*.md', 'docs/**/*.md', 'packages/*/*.md'], { cwd: root })
  const { stdout } = spawnSync('git', ['-c', 'safe.directory=*', 'check-ignore', ...found], {
    cwd: root,
    encoding: 'utf8',
  })
  const ignored = new Set((stdout ?? '').split('\n'))
  return found.filter((path) => !ignored.has(path))
}

const DOCUMENTS = listDocuments()

test('lines of documents end at 120 characters', () => {
  for (const path of DOCUMENTS) {
    const long = read(path)
      .split('\n')
      .flatMap((line, index) => (line.length > 120 ? [`${path}:${index + 1}`] : []))
    assert.deepEqual(long, [])
  }
})

test('docs/containerd.md has the configurations that loamd configure prints', () => {
  const text = read('docs/containerd.md')
  const places = { root: '/var/lib/loam', platform: { os: 'linux', architecture: 'amd64' } }
  for (const setup of [{ version: '1.6' }, { version: '2.1' }, { version: '2.1', isDiffer: true }]) {
    const lines = containerdConfig({ ...setup, ...places })
    assert.ok(text.includes(`\`\`\`toml\n${lines}\`\`\``), JSON.stringify(setup))
  }
  assert.ok(text.includes(`\`\`\`json\n${dockerConfig()}\`\`\``))
})

/** Phrases that docs/glossary.md and the field have better words for. */
const BANNED =
  /(?<!--user )\bnobody\b|\bwhoever\b|\bis none\b|\bat the door\b|\bof today\b|\bputs? right\b|\bmakes? again\b|\bmade again\b|\bstands? for\b|\bwhole artifact\b|\bforms? of a layer\b/i

test('documents, help and messages keep to the words of the glossary', () => {
  for (const path of DOCUMENTS) {
    if (path === 'CHANGELOG.md') continue
    const found = readUnwrapped(path)
      .replaceAll(/`[^`\n]*`: [^;|)\n]*/g, '')
      .split('\n')
      .flatMap((line) => BANNED.exec(line)?.[0] ?? [])
    assert.deepEqual(found, [], path)
  }
  const sources = globSync(
    ['packages/*/src/cli/**/*.ts', 'packages/loam/src/config/settings.ts', 'packages/loamd/src/main.ts'],
    {
      cwd: root,
    },
  )
  for (const path of sources.filter((each) => !each.endsWith('.test.ts'))) {
    const code = read(path).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
    const texts = [...code.matchAll(/(['"`])((?:\\.|(?!\1)[^\\])*)\1/g)].map((match) => match[2] ?? '')
    assert.deepEqual(
      texts.flatMap((text) => BANNED.exec(text)?.[0] ?? []),
      [],
      path,
    )
  }
})
