// A checkout has the sources, and nothing that was built; a package has dist alone.
import { existsSync } from 'node:fs'
import { requireNode } from './require-node.js'

requireNode()
const source = new URL('./src/testing/index.ts', import.meta.url)
const {
  Authority,
  LOWER_LINK,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
  RegistryServer,
  appcLabels,
  backendConformance,
  buildAci,
  buildDockerArchive,
  buildImage,
  buildMetaImage,
  buildTar,
  bundleReferrer,
  frontDoorConformance,
  listTree,
  createKeyPair,
  mountSnapshot,
  signBundle,
  signSimple,
  simpleManifest,
  snapshotterConformance,
  storeConformance,
  writeOciLayout,
} = await import(existsSync(source) ? source.href : './dist/testing.js')

export {
  Authority,
  LOWER_LINK,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
  RegistryServer,
  appcLabels,
  backendConformance,
  buildAci,
  buildDockerArchive,
  buildImage,
  buildMetaImage,
  buildTar,
  bundleReferrer,
  frontDoorConformance,
  listTree,
  createKeyPair,
  mountSnapshot,
  signBundle,
  signSimple,
  simpleManifest,
  snapshotterConformance,
  storeConformance,
  writeOciLayout,
}
