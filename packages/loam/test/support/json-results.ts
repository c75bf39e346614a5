// The output of commands with --json, as far as tests read it.

/** The error of a command that has failed. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

/** The output of `loam --json provision`. */
export interface Provisioned {
  readonly containerId: string
  readonly rootfs: string
  readonly backend: string
  readonly hostMounts: readonly unknown[]
  readonly volumes: readonly { readonly containerPath: string; readonly readOnly: boolean }[]
  readonly image: {
    readonly digest: string
    readonly configPath: string
    readonly manifest: { readonly annotations: Readonly<Record<string, string>> }
    readonly appcManifest: { readonly name: string }
    readonly dockerManifest: {
      readonly id?: string
      readonly config: {
        readonly Cmd?: readonly string[]
        readonly User?: string
        readonly WorkingDir?: string
      }
    }
  }
}

interface Pruned {
  readonly images: readonly { readonly digest: string }[]
  readonly layers: readonly { readonly diffId: string }[]
}

/** Results by the name of their command. */
export interface JsonResults {
  readonly provision: Provisioned
  readonly ps: readonly { readonly id: string }[]
  readonly images: readonly { readonly names: readonly string[] }[]
  readonly inspect: { readonly image: { readonly digest: string } }
  readonly mount: readonly { readonly reference: string }[]
  readonly volume: readonly { readonly target: string }[]
  readonly prune: Pruned
  readonly gc: Pruned & {
    readonly freedBytes: number
    readonly wantedBytes: number
    readonly reasons: readonly unknown[]
  }
  readonly recover: Readonly<Record<'kept' | 'restored' | 'undone' | 'swept' | 'failed', readonly string[]>>
  readonly config: readonly { readonly name: string; readonly value: unknown; readonly origin: string }[]
  readonly doctor: { readonly backends: readonly { readonly name: string; readonly isDefault: boolean }[] }
}
