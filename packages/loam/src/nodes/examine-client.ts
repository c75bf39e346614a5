import { examineContainerd, type ContainerdExamination } from './examine-containerd.ts'
import { examineDocker } from './examine-docker.ts'
import type { NodeReport } from './report.ts'

/** Which client of the snapshotter to check. */
export interface ClientExamination {
  /** The client. */
  readonly client: 'containerd' | 'docker'
  /** Absolute path of its configuration file. Undefined: that of its packages. */
  readonly config?: string | undefined
}

/** Checks the configuration of a client on this machine, and asks the client if it runs. It changes nothing. */
export async function examineClient(
  { client, config }: ClientExamination,
  loam: Omit<ContainerdExamination, 'config'>,
): Promise<NodeReport> {
  return client === 'docker' ? examineDocker(config) : examineContainerd({ ...loam, config })
}
