export type { UnexportOptions } from './additional-store.ts'
export { Containers } from './containers.ts'
export {
  type MesosContainer,
  type MesosContainerInfo,
  type MesosVolume,
  parseMesosContainer,
} from './mesos-container.ts'
export { findRuntime, type RuntimePaths } from './oci-runtime.ts'
export { type ContainerProcess, PROCESS_STATUSES } from './process-state.ts'
export { ContainerFiles } from './container-files.ts'
export { ContainerProcesses } from './processes.ts'
export type {
  CopyOptions,
  DestroyOptions,
  ExecOptions,
  LogOptions,
  PackFilesOptions,
  StopOptions,
  HostMount,
  MountedVolume,
  ImageVolume,
  ProgramStart,
  ProvisionImageOptions,
  UserNamespace,
  RecoverOptions,
  RunImageOptions,
  RunStarter,
  StartedContainer,
  UnpackFilesOptions,
  VolumeOptions,
} from './requests.ts'
export {
  type SpawnedProcess,
  type SpawnedStream,
  type SpawnedStreams,
  type SpawnExecOptions,
  type SpawnImageOptions,
  spawnProcess,
} from './spawned-process.ts'
export type { CopyReport, ProvisionedContainer, ProvisionedImage, ProvisionedVolume } from './results.ts'
