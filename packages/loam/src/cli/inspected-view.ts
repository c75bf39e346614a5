import type { ContainerProcess } from '../containers/index.ts'
import type { ImageInspection } from '../images/index.ts'
import type { ContainerInfo } from '../provisioner/index.ts'

/** What `loam inspect` has found. */
export type Inspected =
  | ({ readonly kind: 'image' } & ImageInspection)
  | {
      readonly kind: 'container'
      readonly container: ContainerInfo & {
        /** Undefined: its state cannot be read. */
        readonly process: ContainerProcess | undefined
      }
    }

/** Returns what a template of `loam inspect` reads: the fields of the JSON, and those that `docker inspect` has. */
export function inspectedView(found: Inspected): Readonly<Record<string, unknown>> {
  if (found.kind === 'container') {
    const { id, createdAtMs, rootfses, process } = found.container
    const [first] = rootfses
    return {
      ...found,
      Id: id,
      Name: id,
      Created: new Date(createdAtMs).toISOString(),
      Image: first?.imageDigest,
      ImageName: first?.reference,
      Rootfs: first?.rootfsPath,
      State: stateView(process),
    }
  }
  const { image, config } = found
  return { ...found, ...configView(config), ...imageView(image) }
}

/** Returns the state of a process under the names of `docker inspect`. An exit status that is not known is -1. */
function stateView(process: ContainerProcess | undefined): Readonly<Record<string, unknown>> {
  const { status = 'unknown', pid, exitStatus } = process ?? {}
  return {
    Status: status,
    Running: status === 'running' || status === 'paused',
    Paused: status === 'paused',
    Pid: pid ?? 0,
    ExitCode: exitStatus ?? (status === 'exited' ? -1 : 0),
  }
}

function imageView(image: ImageInspection['image']): Readonly<Record<string, unknown>> {
  const { digest, names, sizeBytes, tarBytes, layers } = image
  const repositories = new Set(names.map((name) => name.replace(/@.*$/, '').replace(/:[^:/]*$/, '')))
  return {
    Id: image.configDigest,
    Digest: digest,
    RepoTags: names.filter((name) => !name.includes('@')),
    RepoDigests: [...repositories].map((repository) => `${repository}@${digest}`),
    Size: tarBytes,
    PackedSize: sizeBytes,
    RootFS: { Type: 'layers', Layers: layers.map(({ diffId }) => diffId) },
  }
}

/** Returns the fields of an image's config under the names of `docker inspect`. */
export function configView(config: unknown): Readonly<Record<string, unknown>> {
  const fields = typeof config === 'object' && config !== null ? (config as Record<string, unknown>) : {}
  return {
    Config: fields['config'] ?? {},
    Os: fields['os'],
    Architecture: fields['architecture'],
    Variant: fields['variant'],
    Created: fields['created'],
    Author: fields['author'],
    History: fields['history'] ?? [],
  }
}
