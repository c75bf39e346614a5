// The site of the documents. scripts/site/build.ts writes the pages and the sidebar into tools/site/pages, and starts this.
import { readFileSync } from 'node:fs'

const { sidebar, version } = JSON.parse(
  readFileSync(new URL('../pages/navigation.json', import.meta.url), 'utf8'),
)
// Loaded by Node, and not bundled: the bundler of VitePress does not know the target of this project's tsconfig.json.
const { slugify } = await import(new URL('../../../scripts/site/markdown.ts', import.meta.url).href)

export default {
  title: 'Loam',
  description: 'Root filesystems from container images',
  lang: 'en',
  base: process.env.SITE_BASE ?? '/',
  srcDir: 'pages',
  outDir: process.env.SITE_OUTPUT,
  cacheDir: '../../.cache/site',
  // The pages work from any file server, also without rewriting of addresses.
  cleanUrls: false,
  metaChunk: true,
  // scripts/site.test.ts checks all links, and those of /library/ exist only after the build.
  ignoreDeadLinks: [/^\/library\//, /openapi\.json$/],
  head: [
    [
      'link',
      { rel: 'icon', type: 'image/svg+xml', href: `${process.env.SITE_BASE ?? '/'}pictures/mark.svg` },
    ],
  ],
  markdown: {
    // Comments of the usual themes are too pale to be read.
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    // The documents have no HTML; what looks like it is text.
    html: false,
    linkify: false,
    anchor: { slugify },
    toc: { slugify },
    // Braces in the documents are text, too.
    attrs: { leftDelimiter: '{:', rightDelimiter: '}' },
    config: (md) => {
      // Templates of Go are not those of Vue.
      for (const name of ['text', 'code_inline']) {
        const render = md.renderer.rules[name]
        md.renderer.rules[name] = (...args) => render(...args).replaceAll('{{', '&#123;&#123;')
      }
    },
  },
  // The index of the search is one file.
  vite: { build: { chunkSizeWarningLimit: 4096 } },
  themeConfig: {
    logo: '/pictures/mark.svg',
    search: {
      provider: 'local',
      options: {
        detailedView: true,
        // Some letters may be wrong, but a whiteout is not "without".
        miniSearch: { searchOptions: { fuzzy: 0.1, prefix: true, boost: { title: 4, text: 2, titles: 1 } } },
      },
    },
    outline: [2, 3],
    sidebar,
    nav: [
      { text: 'Start', link: '/tutorials/first-root-filesystem', activeMatch: '/(tutorials|installation)' },
      { text: 'How to', link: '/how-to/ci', activeMatch: '/how-to/' },
      { text: 'Reference', link: '/reference/commands', activeMatch: '/reference/' },
      { text: 'Comparison', link: '/comparison' },
      { text: version, link: '/internals/changelog' },
    ],
    footer: { message: 'Apache-2.0' },
    externalLinkIcon: true,
  },
}
