export type {
  Backend,
  BackendName,
  BackendOptions,
  LayerStack,
  Probe,
  ProvisionRequest,
  ProvisionResult,
  RootfsLocation,
} from './backend.ts'
export { bindBackend } from './bind/bind-backend.ts'
export { chooseBackend } from './choose.ts'
export { copyBackend } from './copy/copy-backend.ts'
export { overlayBackend } from './overlay/overlay-backend.ts'
