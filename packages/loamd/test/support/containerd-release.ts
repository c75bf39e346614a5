import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { testTool } from '../../../loam/test/support/test-tools.ts'

/** A release of containerd that tests run. */
export interface ContainerdRelease {
  readonly version: string
  /** Directory of its programs, and of those that it calls; undefined for the machine's own. */
  readonly programs: string | undefined
  /** Plugins of CRI. */
  readonly cri: readonly string[]
  /** Further lines of its configuration for pods on a test machine, which run `image` as their sandbox. */
  readonly podLines: (image: string, cniFolder: string) => string
  /** Reason to skip its tests. */
  readonly skip: string | false
}

/** That of Debian 12, which is installed. */
export const CONTAINERD_1: ContainerdRelease = {
  version: '1.6',
  programs: undefined,
  cri: ['io.containerd.grpc.v1.cri'],
  podLines: (image, cniFolder) => `
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "${cniFolder}"
`,
  skip: false,
}

/** Programs of Debian's newest release, which run beside those of the machine. */
export const NEWEST_PROGRAMS = testTool('clients', 'bin')

const isMissing = !existsSync(join(NEWEST_PROGRAMS, 'dockerd'))

/** Reason to skip tests of these programs. */
export const WITHOUT_NEWEST: string | false = isMissing && 'scripts/fetch-test-tools.sh has not unpacked them'

/** That of Debian's newest release. */
export const CONTAINERD_2: ContainerdRelease = {
  version: '2.1',
  programs: NEWEST_PROGRAMS,
  cri: ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri'],
  podLines: (image, cniFolder) => `
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${image}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    conf_dir = "${cniFolder}"
    bin_dir = "${cniFolder}/bin"
`,
  skip: WITHOUT_NEWEST,
}
