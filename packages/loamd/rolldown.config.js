import { bundleOf } from '../../scripts/bundle.js'

export default bundleOf({ index: 'src/index.ts', main: 'src/main.ts' })
