export {
  containerdConfig,
  type ContainerdSetup,
  IMAGE_SERVICE_SOCKET,
  SNAPSHOTTER_SOCKET,
} from './containerd-config.ts'
export {
  type ContainerdCall,
  ContainerdContent,
  type ContainerdImage,
} from './containerd-content.ts'
export { dockerConfig } from './docker-config.ts'
export { type ClientExamination, examineClient } from './examine-client.ts'
export { examineContainerd } from './examine-containerd.ts'
export { examineDocker } from './examine-docker.ts'
export { hasProblems, type NodeFinding, type NodeReport } from './report.ts'
