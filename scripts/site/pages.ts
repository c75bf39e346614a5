// The pages of the site: the documents of the repository with their links fitted to the site, and the generated reference.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fenced, linksIn, mapLinks, slugify, titleOf } from './markdown.ts'
import { HOME, SECTIONS } from './navigation.ts'
import type { Entry, Page } from './page.ts'
import { referencePages } from './reference/index.ts'

export interface Site {
  readonly pages: readonly Page[]
  readonly sidebar: readonly Entry[]
  /** Files that pages show, by their paths in the repository, with their paths in the site. */
  readonly files: ReadonlyMap<string, string>
}

/** The root of the repository. */
export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

const FILES = new Map([['docs/openapi.json', 'openapi.json']])
/** Files that a page shows as a whole, by their paths. */
const SHOWN = /^examples\/([\w-]+\.ts)$/

/** Returns all pages, and the sidebar that leads to them. */
export function createSite(): Site {
  const sources = [HOME, ...SECTIONS.flatMap(({ pages }) => pages)]
  const { pages: generated, entries } = referencePages()
  const pages = [...sources.map(repositoryPage), ...generated]
  const entry = (page: Page): Entry => ({ text: titleOf(page.text) ?? page.path, link: addressOf(page.path) })
  const sidebar = SECTIONS.map(({ title, pages: own }) => ({
    text: title,
    collapsed: title === 'Internals',
    items: [...own.map((source) => entry(repositoryPage(source))), ...(title === 'Reference' ? entries : [])],
  }))
  return { pages, sidebar, files: new Map([...FILES, ...picturesOf(pages)]) }
}

/** Returns the path in the site of a file of the repository; undefined if the site does not have it. */
export function pathInSite(source: string): string | undefined {
  if (source === 'README.md' || source === 'docs/README.md') return 'index.md'
  if (source === 'examples/README.md') return 'examples.md'
  if (!SECTIONS.some(({ pages }) => pages.includes(source)) && source !== HOME) return undefined
  if (source.startsWith('docs/')) return source.slice('docs/'.length)
  return `internals/${source.toLowerCase()}`
}

function addressOf(path: string): string {
  return `/${path.replace(/\.md$/, '')}`
}

function repositoryPage(source: string): Page {
  const path = pathInSite(source)
  if (path === undefined) throw new Error(`${source} is not in the site`)
  const text = readFileSync(join(REPOSITORY, source), 'utf8')
  const whole = source === 'examples/README.md' ? withPrograms(text) : text
  return { path, source, text: mapLinks(whole, (target) => linkInSite(source, target)) }
}

/** Returns a link of a document as one of the site: undefined for files that only the repository has. */
function linkInSite(source: string, target: string): string | undefined {
  if (/^[a-z]+:|^#|^\//.test(target)) return target
  const [file = '', anchor] = target.split('#')
  const named = normalize(join(dirname(source), file))
  if (!existsSync(join(REPOSITORY, named))) throw new Error(`${source}: there is no ${target}`)
  const shown = SHOWN.exec(named)?.[1]
  if (shown !== undefined) return `#${slugify(shown)}`
  if (named.startsWith('docs/pictures/')) return target
  if (FILES.has(named)) return `/${FILES.get(named)}`
  const path = pathInSite(named === 'docs/adr' ? 'docs/adr/0001-artifacts-without-fsync.md' : named)
  if (path === undefined) return undefined
  const from = dirname(pathInSite(source) ?? '')
  const to = relative(from, path)
  return `${to.startsWith('.') ? to : `./${to}`}${anchor === undefined ? '' : `#${anchor}`}`
}

/** Adds the programs that a document links to. */
function withPrograms(text: string): string {
  const names = linksIn(text).flatMap(({ target }) => (SHOWN.test(`examples/${target}`) ? [target] : []))
  const programs = [...new Set(names)].map((name) => {
    const program = readFileSync(join(REPOSITORY, 'examples', name), 'utf8').trimEnd()
    return `## ${name}\n\n${fenced('ts', program)}\n`
  })
  return `${text}\n${programs.join('\n')}`
}

function picturesOf(pages: readonly Page[]): [string, string][] {
  const targets = pages.flatMap(({ source, text }) =>
    source === undefined
      ? []
      : linksIn(text)
          .filter(({ target }) => target.includes('pictures/'))
          .map(({ target }) => normalize(join(dirname(source), target))),
  )
  return targets.map((file) => [file, file.slice('docs/'.length)])
}
