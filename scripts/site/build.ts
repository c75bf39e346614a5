// npm run site [-- --serve [PORT]] [-- --pages] [-- --output DIRECTORY]: builds the documents as a site in dist/site or another directory, which is
// replaced, without the network; --pages only writes the Markdown pages into tools/site/pages. SITE_BASE is the path of the site on its host.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { packageEdition } from '../man-pages.ts'
import { deadLinks } from './check-links.ts'
import { createSite, REPOSITORY, type Site } from './pages.ts'

const TOOLS = join(REPOSITORY, 'tools/site')
const PAGES = join(TOOLS, 'pages')

/** Writes the pages, the sidebar and the files that pages show. */
function writePages({ pages, sidebar, files }: Site): void {
  rmSync(PAGES, { recursive: true, force: true })
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(PAGES, path)), { recursive: true })
    writeFileSync(join(PAGES, path), text)
  }
  for (const { path, text } of pages) write(path, text)
  write('navigation.json', JSON.stringify({ sidebar, version: packageEdition().version }))
  for (const [source, path] of [...files, ['docs/pictures/mark.svg', 'pictures/mark.svg'] as const]) {
    // Pictures beside the pages are bundled; those in public keep their names.
    for (const target of [path, `public/${path}`]) {
      mkdirSync(dirname(join(PAGES, target)), { recursive: true })
      copyFileSync(join(REPOSITORY, source), join(PAGES, target))
    }
  }
}

function run(program: string, ...args: readonly string[]): void {
  const { status, error } = spawnSync(program, args, {
    cwd: TOOLS,
    stdio: 'inherit',
    env: { ...process.env, SITE_OUTPUT: output },
  })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} has failed`)
}

const { values, positionals } = parseArgs({
  options: {
    serve: { type: 'boolean', default: false },
    pages: { type: 'boolean', default: false },
    output: { type: 'string', default: join(REPOSITORY, 'dist/site') },
  },
  allowPositionals: true,
})
const output = resolve(values.output)
const site = createSite()
const dead = deadLinks(site)
if (dead.length > 0) throw new Error(`dead links:\n${dead.join('\n')}`)
writePages(site)
if (!values.pages) {
  rmSync(output, { recursive: true, force: true })
  run('npm', 'install', '--no-audit', '--no-fund', '--silent', '--ignore-scripts')
  const vitepress = join(TOOLS, 'node_modules/vitepress/bin/vitepress.js')
  run(process.execPath, vitepress, 'build')
  const typedoc = join(REPOSITORY, 'tools/node_modules/typedoc/bin/typedoc')
  const options = join(REPOSITORY, 'packages/loam/typedoc.json')
  run(
    process.execPath,
    typedoc,
    '--options',
    options,
    '--out',
    join(output, 'library'),
    '--logLevel',
    'Error',
  )
  if (values.serve) run(process.execPath, vitepress, 'preview', '--port', positionals[0] ?? '4173')
}
