export { checkContainerId } from './container-id.ts'
export {
  type ContainerInfo,
  type ProvisionedRootfs,
  Provisioner,
  type ProvisionerOptions,
  type ProvisionOptions,
  type RecoveryReport,
  type RestoreStack,
} from './provisioner.ts'
