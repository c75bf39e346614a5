// Bundles both programs as modules of CommonJS, which scripts/single-file/entry.cjs loads out of the executable.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { licences } from '../bundle.js'

const packages = fileURLToPath(new URL('../../packages', import.meta.url))
const source = (path) => join(packages, path)

export default {
  input: {
    main: source('loam/src/cli/main.ts'),
    lazyd: source('loam/src/lazy/main.ts'),
    worker: source('loam/src/transform/worker.ts'),
    'event-thread': source('loam/src/lazy/event-thread.ts'),
    'fill-thread': source('loam/src/lazy/fill-thread.ts'),
    loamd: source('loamd/src/main.ts'),
    re2js: 're2js',
  },
  platform: 'node',
  resolve: {
    alias: {
      'loamfs/internal': source('loam/src/internal.ts'),
      'loamfs/client': source('loam/src/client/index.ts'),
      loamfs: source('loam/src/index.ts'),
    },
  },
  plugins: [licences('THIRD-PARTY-LICENSES.txt'), withoutImports()],
  output: { format: 'cjs', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js', comments: false },
}

/** Scripts that are not files cannot import: they require Node's own modules. */
function withoutImports() {
  return {
    name: 'without-imports',
    generateBundle(_options, bundle) {
      for (const file of Object.values(bundle))
        if (file.type === 'chunk')
          file.code = file.code.replaceAll(
            /\bimport\((["'][a-z][a-z_:/]*["'])\)/g,
            'Promise.resolve(require($1))',
          )
    },
  }
}
