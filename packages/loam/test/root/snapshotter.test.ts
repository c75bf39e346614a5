// The snapshotter passes its suite.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe } from 'node:test'
import { readConfiguration } from '../../src/app/index.ts'
import { Parts } from '../../src/app/parts.ts'
import { lockPath, openStoreRoot } from '../../src/content/index.ts'
import { MetadataStore } from '../../src/metadata/index.ts'
import { snapshotterConformance } from '../../src/testing/index.ts'

describe('snapshots', () => {
  snapshotterConformance('loam', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    const opened: Parts[] = []
    const open = async () => {
      const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
      const configuration = readConfiguration({ flags, file: null })
      const paths = openStoreRoot(configuration.values.root)
      const metadata = await MetadataStore.open(paths.database, lockPath(paths, 'metadata', 'open'))
      const parts = new Parts({ configuration, paths, metadata, env: {} })
      opened.push(parts)
      return parts.makeSnapshotter()
    }
    return {
      snapshotter: await open(),
      reopen: open,
      [Symbol.asyncDispose]: async () => {
        for (const parts of opened) await parts[Symbol.asyncDispose]()
        rmSync(folder, { recursive: true })
      },
    }
  })
})
