export { DockerStore, type DockerStoreOptions } from './docker/docker-store.ts'
export {
  type GetOptions,
  type PruneOptions,
  type PruneResult,
  type PullEvent,
  type Store,
  StoredImage,
} from './store.ts'
