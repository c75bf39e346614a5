/** Support for tests of Loam and of programs that build on it. Not needed to use Loam. */
export { backendConformance, type ConformanceOptions } from './backend-conformance.ts'
export { appcLabels, buildAci, type BuildAciOptions } from './aci-builder.ts'
export {
  type BuildCompression,
  type BuildEntry,
  buildDockerArchive,
  buildImage,
  type BuildImageOptions,
  buildMetaImage,
  buildTar,
  type BuiltBlob,
  type BuiltImage,
  writeOciLayout,
} from './image-builder.ts'
export { type Interceptor, RegistryServer } from './registry-server.ts'
export {
  Authority,
  bundleReferrer,
  type BundleSigner,
  type KeyPair,
  createKeyPair,
  signBundle,
  signSimple,
  simpleManifest,
} from './signing.ts'
export { LOWER_LINK, ODD_BASE, ODD_TOP, ODD_UNLISTED } from './sample-layers.ts'
export { type ListingOptions, listTree } from './tree-listing.ts'
export { storeConformance, type StoreUnderTest } from './store-conformance.ts'
export { mountSnapshot } from './mounting.ts'
export {
  snapshotterConformance,
  type SnapshotterContract,
  type SnapshotterUnderTest,
} from './snapshotter-conformance.ts'
export type { FrontDoor, FrontDoorUnderTest } from './front-door.ts'
export { frontDoorConformance } from './front-door-conformance.ts'
