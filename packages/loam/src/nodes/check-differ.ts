import { type ContainerdSetup, differText, unpackText, WALKING } from './containerd-config.ts'
import { type ContainerdSettings, findUnpack, type ProxyPlugin } from './containerd-settings.ts'
import type { Release } from './release.ts'
import type { NodeFinding } from './report.ts'

interface DifferContext {
  readonly settings: ContainerdSettings
  readonly loam: { readonly socket: string; readonly containerdSocket: string }
  readonly release: Release
  readonly setup: ContainerdSetup
  /** Name of the snapshotter. */
  readonly name: string
}

/** The plugin by which containerd asks Loam to take layers from its content store. */
export function findDiffer({
  settings,
  loam,
}: {
  readonly settings: ContainerdSettings
  readonly loam: { readonly socket: string }
}): ProxyPlugin | undefined {
  return settings.proxies.find(({ type, address }) => type === 'diff' && address === loam.socket)
}

/** Checks what containerd and loamd need where containerd fetches the layers. */
export function checkDiffer(context: DifferContext): NodeFinding[] {
  const { settings, loam, release, setup, name } = context
  const differ = findDiffer(context)
  if (differ === undefined) return []
  const what = 'differ'
  const wrong = (message: string, write: string): NodeFinding => ({ status: 'wrong', what, message, write })
  const own = { ...setup, isDiffer: true }
  const findings: NodeFinding[] = []
  const [first, ...others] = settings.differs
  if (first !== differ.name) {
    const message = `containerd asks ${first ?? 'no differ'} before ${differ.name}, and unpacks the layers of Loam`
    findings.push(wrong(message, differText(own, release)))
  } else if (!others.includes(WALKING)) {
    const message = `${WALKING} is missing behind ${differ.name}: other snapshotters have no differ`
    findings.push(wrong(message, differText(own, release)))
  }
  const unpack = findUnpack(settings, name, setup.platform)
  if (unpack !== undefined && unpack.differ !== differ.name) {
    const message = `the transfer service unpacks the layers of ${name} with ${unpack.differ}`
    findings.push(wrong(message, unpackText(own)))
  }
  if (loam.containerdSocket !== settings.address) {
    const message = `loamd reads layers from ${loam.containerdSocket}, and containerd listens on ${settings.address}`
    findings.push({ status: 'wrong', what, message, run: `loamd --containerd-socket ${settings.address}` })
  }
  if (findings.length > 0) return findings
  const message = `containerd fetches layers, and ${differ.name} takes them from its content store`
  return [{ status: 'right', what, message }]
}
