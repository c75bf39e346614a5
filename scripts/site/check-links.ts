import { dirname, join, normalize } from 'node:path'
import { anchorsIn, type Link, linksIn } from './markdown.ts'
import type { Site } from './pages.ts'

/** What `npm run site` adds after the pages. */
const LIBRARY = /^\/library\//

/** Returns the links of the pages that lead to no page, no file or no heading, each as `page:line: link`. */
export function deadLinks({ pages, files }: Site): string[] {
  const anchors = new Map(pages.map(({ path, text }) => [path, anchorsIn(text)]))
  const shown = new Set([...files.values()].map((path) => `/${path}`))
  const isAlive = (page: string, target: string): boolean => {
    if (/^[a-z]+:/.test(target) || LIBRARY.test(target)) return true
    const [file = '', anchor] = target.split('#')
    const path = file === '' ? page : normalize(join(file.startsWith('/') ? '/' : dirname(page), file))
    if (shown.has(path) || shown.has(`/${path}`)) return anchor === undefined
    const found = anchors.get(path.replace(/^\//, ''))
    return found !== undefined && (anchor === undefined || found.has(anchor))
  }
  return pages.flatMap(({ path, text }) =>
    [...linksIn(text), ...frontMatterLinks(text)]
      .filter(({ target }) => !isAlive(path, target))
      .map(({ target, line }) => `${path}:${line}: ${target}`),
  )
}

/** The links of the cards and buttons of a first page, which have no ending. */
function frontMatterLinks(text: string): Link[] {
  const front = /^---\n([\s\S]*?)\n---\n/.exec(text)?.[1] ?? ''
  return front.split('\n').flatMap((each, index) => {
    const target = /^ *link: (\/\S*)$/.exec(each)?.[1]
    return target === undefined ? [] : [{ target: `${target}.md`, line: index + 2 }]
  })
}
