import { LoamError } from '../errors/index.ts'
import type { ExportSource } from '../exports/index.ts'
import { configOfRootfs, type ImageServices } from '../images/index.ts'
import { type ContainerInfo, type Provisioner, rootfsIdMapping } from '../provisioner/index.ts'

/** Returns the root filesystem of a container for an export. @throws USAGE if it has several, ROOTFS_UNMOUNTED */
export function rootfsSource(
  services: Pick<ImageServices, 'blobs' | 'metadata'> & { readonly provisioner: Provisioner },
  { id, rootfses }: ContainerInfo,
): ExportSource {
  const [rootfs, other] = rootfses.filter(({ volumeTarget: target }) => target === undefined)
  if (rootfs === undefined || other !== undefined) {
    throw new LoamError(
      'USAGE',
      `export ${id}: it has ${rootfses.length} root filesystems, exactly one is required`,
    )
  }
  services.provisioner.requireStanding(rootfs, `export ${id}`)
  return {
    kind: 'rootfs',
    path: rootfs.rootfsPath,
    idMapping: rootfsIdMapping(rootfs),
    image: { readConfig: () => configOfRootfs(services, rootfs), name: undefined },
  }
}
