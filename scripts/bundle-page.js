// Bundles the page of the daemon: its sources in packages/loamd/ui with their imports, its document, its style and its icon.
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { licences } from './bundle.js'

const SOURCES = fileURLToPath(new URL('../packages/loamd/ui/', import.meta.url))
const TOOLS = new URL('../tools/node_modules/', import.meta.url)
const BUNDLER = new URL('rolldown/dist/index.mjs', TOOLS)
/** Files that are served unchanged. */
const FILES = ['index.html', 'page.css', 'icon.svg']

/** Returns rolldown's configuration of the page, which is written to `page/` in the bundle of the package. */
export function pageBundle() {
  return {
    input: { page: `${SOURCES}main.tsx` },
    platform: 'browser',
    plugins: [files(), licences('page/THIRD-PARTY-LICENSES.txt')],
    output: { dir: 'dist', format: 'esm', entryFileNames: 'page/[name].js', minify: true },
  }
}

/**
 * Bundles the page in memory, for a daemon that runs from a checkout.
 * @returns {Promise<Record<string, Uint8Array>>} the files by their names
 */
export async function bundlePage() {
  if (!existsSync(BUNDLER))
    throw new Error('bundle the page: the bundler is missing: npm install --prefix tools')
  const { rolldown } = await import(BUNDLER.href)
  const { output: options, ...input } = pageBundle()
  const bundle = await rolldown(input)
  try {
    const { output } = await bundle.generate(options)
    return Object.fromEntries(
      output.map((file) => [
        file.fileName.replace(/^page\//, ''),
        Buffer.from(file.type === 'chunk' ? file.code : file.source),
      ]),
    )
  } finally {
    await bundle.close()
  }
}

function files() {
  return {
    name: 'files',
    generateBundle() {
      for (const name of FILES) {
        this.emitFile({
          type: 'asset',
          fileName: `page/${name}`,
          source: readFileSync(`${SOURCES}${name}`, 'utf8'),
        })
      }
    },
  }
}
