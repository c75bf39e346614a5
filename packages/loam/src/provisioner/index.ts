export {
  type ContainerInfo,
  type ProvisionedRootfs,
  Provisioner,
  type ProvisionerOptions,
  type ProvisionOptions,
  type RootfsInfo,
} from './provisioner.ts'
export { rootfsIdMapping } from './rootfs-id-mapping.ts'
export type { RecoveryReport } from './recovery.ts'
