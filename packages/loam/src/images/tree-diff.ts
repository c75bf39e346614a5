import { LoamError } from '../errors/index.ts'
import type { Digest, DiffId } from '../image/index.ts'
import type { ComparedLayer, TreeChange, TreeComparison } from '../transform/index.ts'
import { rootfsIdMapping } from '../provisioner/index.ts'
import { changesOfContainer } from './commit-image.ts'
import { getImage } from './image-list.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** How many differences are listed. */
const MAX_CHANGES = 100_000

/** How to compare two trees. */
export interface CompareOptions extends ImageOptions {
  /** Whether times of change count, of everything but directories. Undefined: they do not. */
  readonly times?: boolean | undefined
}

/** One of two trees that were compared. */
export interface ComparedTree {
  /** What it is. */
  readonly kind: 'image' | 'container'
  /** Name or ID, as it was given. */
  readonly name: string
  /** Digest of the manifest of the image, or of the container's image. */
  readonly digest: Digest
}

/** The differences of two images, of two containers, or of one of each. */
export interface TreeDiff extends TreeComparison {
  /** The first tree. */
  readonly from: ComparedTree
  /** The second tree. */
  readonly to: ComparedTree
  /** In what they differ, by path. */
  readonly changes: readonly TreeChange[]
}

type DiffServices = Pick<
  ImageServices,
  'metadata' | 'blobs' | 'stores' | 'sources' | 'layers' | 'trees' | 'provisioner'
>

/** A tree as layers, and the folder with what a container has changed. */
interface Subject extends ComparedTree {
  readonly layers: readonly DiffId[]
  readonly changes: Extract<ComparedLayer, { readonly folder: string }> | undefined
}

/**
 * Compares what two images or containers contain, by names, attributes and content. Without `to` a container is compared with its image. Files that both
 * have from one layer are not read. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND, ROOTFS_UNMOUNTED, USAGE, LAYER_UNSUPPORTED
 */
export async function diffTrees(
  services: DiffServices,
  [from, to]: readonly [string, string | undefined],
  options: CompareOptions,
): Promise<TreeDiff> {
  const { signal, times = false } = options
  using leases = new DisposableStack()
  const [first, second] = await subjectsOf(services, [from, to], { options, leases })
  const wanted = [...new Set([...first.layers, ...second.layers])]
  leases.use(await services.layers.leaseStored(wanted, signal))
  const files = ({ layers, changes }: Subject): ComparedLayer[] => [
    ...layers.map((diffId) => services.layers.artifacts.filesOf(diffId, undefined)),
    ...(changes === undefined ? [] : [changes]),
  ]
  const request = { before: files(first), after: files(second), times, maxChanges: MAX_CHANGES }
  const comparison = await services.trees.compare(request, signal)
  return { from: nameOf(first), to: nameOf(second), ...comparison }
}

function nameOf({ kind, name, digest }: Subject): ComparedTree {
  return { kind, name, digest }
}

interface Finding {
  readonly options: CompareOptions
  readonly leases: DisposableStack
}

async function subjectsOf(
  services: DiffServices,
  [from, to]: readonly [string, string | undefined],
  finding: Finding,
): Promise<[Subject, Subject]> {
  const first = await findSubject(services, from, finding)
  if (to !== undefined) return [first, await findSubject(services, to, finding)]
  if (first.kind === 'image') {
    throw new LoamError('USAGE', `diff ${from}: it is an image, and a second image or container is missing`, {
      hint: '`loam layers` and `loam history` show what its layers are.',
    })
  }
  const image = services.metadata.images.find(first.digest)
  if (image === undefined)
    throw new LoamError('IMAGE_NOT_FOUND', `diff ${from}: its image ${first.digest} is not in the store`)
  return [imageSubject(image, image.digest), first]
}

async function findSubject(services: DiffServices, text: string, finding: Finding): Promise<Subject> {
  const container = services.provisioner.find(text)
  if (container === undefined) {
    const record = getImage(services, text, { ...finding.options, attempted: 'diff' })
    return imageSubject(record, text)
  }
  finding.leases.use(await services.provisioner.lease(container.id, finding.options.signal))
  return containerSubject(services, text)
}

function imageSubject(
  { digest, layers }: { readonly digest: Digest; readonly layers: readonly { readonly diffId: DiffId }[] },
  name: string,
): Subject {
  return { kind: 'image', name, digest, layers: layers.map(({ diffId }) => diffId), changes: undefined }
}

/** A container of a backend without a folder of changes is read as a whole. */
function containerSubject(services: DiffServices, name: string): Subject {
  const { provisioner } = services
  const [rootfs] =
    provisioner.find(name)?.rootfses.filter(({ volumeTarget }) => volumeTarget === undefined) ?? []
  if (rootfs === undefined)
    throw new LoamError('CONTAINER_NOT_FOUND', `diff ${name}: it has no root filesystem`)
  const about = { kind: 'container', name, digest: rootfs.imageDigest } as const
  if (rootfs.backend !== 'erofs' && rootfs.backend !== 'overlay') {
    provisioner.requireStanding(rootfs, `diff ${name}`)
    const idMapping = rootfsIdMapping(rootfs)
    return { ...about, layers: [], changes: { folder: rootfs.rootfsPath, as: 'files', idMapping } }
  }
  if (rootfs.isReadOnly) return { ...about, layers: rootfs.layers, changes: undefined }
  const { parts } = changesOfContainer(services, name)
  const changed = parts.find((part) => typeof part !== 'string')
  if (changed === undefined) return { ...about, layers: rootfs.layers, changes: undefined }
  const { path: folder, idMapping } = changed
  return { ...about, layers: rootfs.layers, changes: { folder, as: 'overlay', idMapping } }
}
