import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ERRORS } from '../packages/loam/src/index.ts'
import { SETTING_NAMES } from '../packages/loam/src/config/index.ts'
import { createOpenApi } from '../packages/loamd/src/http/openapi.ts'
import { fullName, loamProgram, shownCommands } from './described-commands.ts'
import { deadLinks } from './site/check-links.ts'
import { commandLinesIn, refusalOf } from './site/command-lines.ts'
import { anchorsIn, linksIn, mapLinks, slugify } from './site/markdown.ts'
import type { Entry } from './site/page.ts'
import { createSite, pathInSite, REPOSITORY } from './site/pages.ts'

const site = createSite()
const page = (path: string) => site.pages.find((each) => each.path === path)?.text ?? ''
const read = (path: string) => readFileSync(join(REPOSITORY, path), 'utf8')

test('no link of the site leads to a page, a heading or a file that does not exist', () => {
  assert.deepEqual(deadLinks(site), [])
})

test('no page of the site shows a picture from elsewhere', () => {
  const pictures = site.pages.flatMap(({ text }) => [...text.matchAll(/!\[[^\]]*\]\((https?:[^)]*)\)/g)])
  assert.deepEqual(pictures, [])
})

test('the check of links finds a page, a heading and a file that do not exist', () => {
  const text = '[a](./b.md) [b](./b.md#y-1) [c](d.md)\n`[x](y.md)`\n[d](b.md#z) ![e](e.svg)'
  const pages = [
    { path: 'a.md', text },
    { path: 'c.md', text: '---\nlink: /a\nlink: /z\n---\n' },
    { path: 'b.md', text: '# X\n## Y\n## Y\n```\n# Z\n```' },
  ]
  assert.deepEqual(deadLinks({ pages, sidebar: [], files: new Map() }), [
    'a.md:1: d.md',
    'a.md:3: b.md#z',
    'a.md:3: e.svg',
    'c.md:3: /z.md',
  ])
})

test('links, anchors and code of Markdown are told apart', () => {
  const text =
    'a [`x [y]` z](t.md#u) `[n](o.md)`\n```\n[no](no.md)\n```\n# The `code` of _A_ [link](x.md): 1.2'
  assert.deepEqual(linksIn(text), [
    { target: 't.md#u', line: 1 },
    { target: 'x.md', line: 5 },
  ])
  assert.equal(
    mapLinks('[a `b`](x) ![p](q)', () => undefined),
    'a `b` ',
  )
  assert.deepEqual(
    [...anchorsIn('# The `code` of [a](x.md): 1.2\n## A\n## A')],
    ['the-code-of-a-12', 'a', 'a-1'],
  )
  assert.equal(slugify('Über `x`: y_z'), 'über-x-y_z')
})

test('each document of the repository is a page of the site', () => {
  const sources = globSync('docs/**/*.md', { cwd: REPOSITORY }).filter(
    (path) => !path.startsWith('docs/api/'),
  )
  assert.deepEqual(
    sources.filter((source) => pathInSite(source) === undefined),
    [],
  )
})

test('each page of the site but the first is in its sidebar, and each entry leads to a page', () => {
  const linksOf = ({ link, items = [] }: Entry): string[] => [
    ...(link === undefined ? [] : [link]),
    ...items.flatMap(linksOf),
  ]
  const linked = site.sidebar.flatMap(linksOf).toSorted()
  const addresses = site.pages
    .filter(({ path }) => path !== 'index.md')
    .map(({ path }) => `/${path.slice(0, -3)}`)
  assert.deepEqual(linked, addresses.toSorted())
})

test('docs/README.md names each document for users', () => {
  const list = read('docs/README.md')
  const unnamed = globSync('*.md', { cwd: join(REPOSITORY, 'docs') }).filter(
    (name) => !['README.md', 'index.md'].includes(name) && !list.includes(`(${name})`),
  )
  assert.deepEqual(unnamed, [])
})

test('the reference has a page for each command, and a section for each setting, error and operation', () => {
  for (const command of shownCommands(loamProgram('1'))) {
    const name = fullName(command).replace('loam ', '').replaceAll(' ', '-')
    assert.match(page(`reference/commands/${name}.md`), /^# loam /, name)
  }
  assert.match(page('reference/commands/run.md'), /\| `-e, --env <key\[=value\]>` \|/)
  for (const name of SETTING_NAMES) assert.ok(page('reference/settings.md').includes(`\n## ${name}\n`), name)
  for (const code of Object.keys(ERRORS))
    assert.match(page('reference/error-codes.md'), new RegExp(`\\[${code}\\]`))
  const { paths, components } = createOpenApi() as {
    paths: Record<string, Record<string, { operationId: string }>>
    components: { schemas: object }
  }
  for (const { operationId } of Object.values(paths).flatMap((each) => Object.values(each)))
    assert.match(page('reference/api.md'), new RegExp(`\\[${operationId}\\]`))
  for (const name of Object.keys(components.schemas))
    assert.ok(page('reference/schemas.md').includes(`\n## ${name}\n`), name)
})

test('the reference has each metric that docs/operations.md explains, with its labels', () => {
  const metrics = page('reference/metrics.md')
  const table = read('docs/operations.md').split('\n## Metrics\n')[1] ?? ''
  const explained = [...table.matchAll(/`(loam_\w+)`/g)].map(([, name]) => name)
  assert.ok(explained.length > 20)
  assert.deepEqual(
    explained.filter((name) => !metrics.includes(`\`${name}\``)),
    [],
  )
  assert.match(metrics, /`loam_operations_total` \| counter \| `operation`, `code` \|/)
})

test('the page of events has operations of the store and those of containerd', () => {
  const events = page('reference/events.md')
  for (const name of ['images.pull', 'containers.provision', 'snapshots.leave', 'store.fsck'])
    assert.match(events, new RegExp(`\`${name}\` \\| \\w`))
  assert.doesNotMatch(events, /` \| +\|/)
})

test('the reference says what fields are, and links to their schemas', () => {
  const images = page('reference/api/images.md')
  assert.match(images, /`certsDir` \(optional\) \| absolute path \| A directory of certificates/)
  assert.match(images, /\[PulledImage\]\(\.\.\/schemas\.md#pulledimage\)/)
  assert.match(
    page('reference/schemas.md'),
    /\*\*`kind: resolved`\*\*\n\n.*\n.*\n\| `name` \| string \|\n\| `digest` \| digest \|/,
  )
})

test('the programs accept each command line of the documents', () => {
  const paths = ['README.md', 'examples/README.md', ...globSync('docs/**/*.md', { cwd: REPOSITORY })]
  const lines = paths.flatMap((path) => commandLinesIn(read(path)).map((each) => ({ path, ...each })))
  assert.ok(lines.length > 150, `there are ${lines.length}`)
  assert.deepEqual(
    lines.flatMap((each) => {
      const refusal = refusalOf(each)
      return refusal === undefined ? [] : [`${each.path}:${each.line}: ${each.words.join(' ')}: ${refusal}`]
    }),
    [],
  )
})

test('command lines of documents are found in blocks and tables, without output and other programs', () => {
  const text = [
    "```console\n$ x=$(loam provision --id web debian:12)   # prints\nloam no\n$ A=1 loam \\\n  ps | cat && loam rm 'a b'\n```",
    '| `podman ps` | `loam ps -a`; `loam run IMAGE` |',
    '`loam not in a table`',
  ].join('\n')
  assert.deepEqual(commandLinesIn(text), [
    { line: 2, words: ['loam', 'provision', '--id', 'web', 'debian:12'], isMention: false },
    { line: 4, words: ['loam', 'ps'], isMention: false },
    { line: 4, words: ['loam', 'rm', 'a b'], isMention: false },
    { line: 7, words: ['loam', 'ps', '-a'], isMention: true },
  ])
  assert.match(refusalOf({ words: ['loam', 'pull', '--nosuch', 'x'], isMention: true }) ?? '', /nosuch/)
  const words = ['loam', 'rmi']
  assert.match(refusalOf({ words, isMention: false }) ?? '', /missing required argument/)
  assert.equal(refusalOf({ words, isMention: true }), undefined)
})

test('the pictures of the site exist', () => {
  for (const source of site.files.keys()) assert.ok(existsSync(join(REPOSITORY, source)), source)
})
