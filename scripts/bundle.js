// Bundles a package: one file for each entry point and for their shared code, so that the command starts without looking up hundreds of modules.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Returns rolldown's configuration of one package. Whatever is not among its dependencies is bundled.
 * @param {Readonly<Record<string, string>>} input names of files in dist, without their ending, and their sources
 */
export function bundleOf(input) {
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
  return {
    input,
    platform: 'node',
    external: Object.keys(dependencies).map((name) => new RegExp(`^${name}(/|$)`)),
    plugins: [plainText(), lazyHttp(), licences('THIRD-PARTY-LICENSES.txt')],
    output: {
      dir: 'dist',
      format: 'esm',
      entryFileNames: '[name].js',
      chunkFileNames: '[name]-[hash].js',
      // With the sources in it: `node --enable-source-maps` then shows lines of them.
      sourcemap: true,
      // A third of the text, which would be read at each start; the licences are in a file, and the sources in the maps.
      comments: false,
    },
  }
}

/** Text of ASCII alone is read by Node without decoding it, and kept in half of the memory. What is not ASCII stands in strings. */
function plainText() {
  return rewriting('plain-text', (code) =>
    code.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
  )
}

/** An import of node:http reads each of its exports, and one of them loads fetch: 100 ms, and memory. Own code never imports it; libraries do. */
function lazyHttp() {
  return rewriting('lazy-http', (code) =>
    code.replaceAll(
      /^import \{([^}]*)\} from "node:http";$/gm,
      (_line, names) => `const {${names.replaceAll(' as ', ': ')}} = process.getBuiltinModule("node:http");`,
    ),
  )
}

/** Returns a plugin that changes the code of each chunk. */
function rewriting(name, rewrite) {
  return {
    name,
    generateBundle(_options, bundle) {
      for (const file of Object.values(bundle)) if (file.type === 'chunk') file.code = rewrite(file.code)
    },
  }
}

/** The licences of what is bundled go along with it, as the file of this name. */
export function licences(fileName) {
  return {
    name: 'licences',
    generateBundle(_options, bundle) {
      const files = Object.values(bundle).flatMap(({ modules }) => Object.keys(modules ?? {}))
      const folders = new Set(
        files.flatMap((file) => /.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []),
      )
      const texts = [...folders].toSorted().map((folder) => {
        const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
        const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
        const text = file === undefined ? '' : readFileSync(join(folder, file), 'utf8')
        return `${name} ${version} (${license})\n\n${text.trim()}\n`
      })
      this.emitFile({
        type: 'asset',
        fileName,
        source: texts.join(`\n${'-'.repeat(80)}\n\n`),
      })
    },
  }
}
