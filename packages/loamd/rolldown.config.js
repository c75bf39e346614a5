import { bundleOf } from '../../scripts/bundle.js'
import { pageBundle } from '../../scripts/bundle-page.js'

export default [bundleOf({ index: 'src/index.ts', main: 'src/main.ts' }), pageBundle()]
