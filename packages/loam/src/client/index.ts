/**
 * The front door of `loamfs` over the socket of a daemon. It loads neither the library nor foreign code: no store is opened in this process.
 */
export {
  connectLoam,
  type ConnectOptions,
  type DaemonVersion,
  type DescribedSetting,
  type EventFilter,
  RemoteLoam,
  RemoteStore,
} from './remote-loam.ts'
export { RemoteContainers } from './remote-containers.ts'
export type { RemoteFiles, RemoteProcesses } from './remote-processes.ts'
export { RemoteImages } from './remote-images.ts'
export { RemoteSnapshots, RemoteSnapshotter } from './remote-snapshots.ts'
export type { RemoteFetchOptions } from './requests.ts'
export type { EventStreamOptions } from './transport.ts'
export type { RemoteRunOptions } from './run-fields.ts'
