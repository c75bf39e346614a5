import type { Reference } from '../page.ts'
import { singlePage } from './single-page.ts'

/** Returns the page that leads to the pages of typedoc, which `npm run site` writes beside the site. */
export function libraryPage(): Reference {
  return singlePage(
    'library',
    'Library',
    '`loamfs` is the library that the command is made of: [all its exports](/library/index.html){: target="_self"} with their types, units and errors, from the comments of its sources.',
    [
      '- `loamfs`: `openLoam` opens a store. [Examples](../examples.md) are programs to begin with.',
      '- `loamfs/client`: `connectLoam` has the same calls over the socket of a running `loamd`.',
      '- `loamfs/testing`: an image builder, a registry, and the conformance suites of backends, stores and snapshotters.',
    ].join('\n'),
  )
}
