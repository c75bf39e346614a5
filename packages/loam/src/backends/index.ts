export type {
  Backend,
  BackendName,
  BackendOptions,
  LayerStack,
  MadeRootfs,
  Mounts,
  Probe,
  ProvisionRequest,
  ProvisionResult,
  RootfsLocation,
  SharedMountOwner,
} from './backend.ts'
export { bindBackend } from './bind/bind-backend.ts'
export { chooseBackend } from './choose.ts'
export { copyBackend } from './copy/copy-backend.ts'
export { erofsBackend } from './erofs/erofs-backend.ts'
export { StackMounts } from './erofs/stack-mounts.ts'
export {
  type LimitMethod,
  limitedFolder,
  LimitedFolders,
  MIN_SIZE_BYTES,
  type SizeLimitProbe,
} from './limited-folders.ts'
export { overlayBackend } from './overlay/overlay-backend.ts'
export { writablePaths } from './writable.ts'
