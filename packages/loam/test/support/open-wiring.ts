import { join } from 'node:path'
import { Activity } from '../../src/activity/index.ts'
import { Wiring } from '../../src/app/wiring.ts'
import { readConfiguration } from '../../src/config/index.ts'
import { lockPath, openStoreRoot } from '../../src/content/index.ts'
import { MetadataStore } from '../../src/metadata/index.ts'

/** Opens the parts of the store in a folder, as a process does. `more` are further settings. */
export async function openWiring(
  folder: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<Wiring> {
  const flags = { root: join(folder, 'store'), state: join(folder, 'state'), ...more }
  const configuration = readConfiguration({ flags, file: null })
  const paths = openStoreRoot(configuration.values.root)
  const metadata = await MetadataStore.open(paths.database, { lockFile: lockPath(paths, 'metadata', 'open') })
  return new Wiring({ configuration, paths, metadata, env: {}, cwd: '', activity: new Activity() })
}
