import { blobPath, type StorePaths } from '../content/index.ts'
import { parseStrictJson } from '../image/index.ts'
import { appcManifestOf, describePulled } from '../images/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { StoredImage } from '../stores/index.ts'
import type { ProvisionedImage } from './results.ts'

/** Describes a root filesystem and its image for a framework. */
export function describeProvisioned(
  paths: StorePaths,
  rootfs: ProvisionedRootfs,
  source: ImageSource,
  image: StoredImage,
): ProvisionedImage {
  const { type, configDigest } = image.record
  const config = image.configBytes.toString('utf8')
  const dockerManifest = parseStrictJson(image.configBytes, `config ${configDigest}`)
  return {
    ...rootfs,
    image: {
      ...describePulled(source, image),
      manifest: image.manifest.toString('utf8'),
      config,
      configPath: blobPath(paths, configDigest),
      dockerManifest: type === 'docker' ? dockerManifest : undefined,
      appcManifest: type === 'appc' ? appcManifestOf(image.manifest) : undefined,
    },
  }
}
