// The images of a file with several: by their names in it, or by their digests.
import { type Descriptor, type StoredReference } from '../image/index.ts'
import { namesOf as referencesOf, normalizeReference } from './archived-images.ts'
import type { ArchiveFiles } from './archive-files.ts'
import { listImages } from './docker-archive.ts'
import type { ImageSource } from './image-source.ts'
import { imagesOf, type LayoutFiles } from './layout-images.ts'
import { namesOf, readIndex } from './oci-layout.ts'

/** An image of a file, with the names that it has there. */
export interface ArchivedSource {
  /** Empty for an image without a name of a registry. */
  readonly names: readonly StoredReference[]
  readonly open: () => Promise<ImageSource>
}

/** An image of a file, and what finds it there. */
export interface Part {
  readonly names: readonly StoredReference[]
  /** In a layout: what finds it again, a digest or a name. */
  readonly selector?: string | undefined
  /** Its entries in the index of a layout. */
  readonly entries?: readonly Descriptor[]
  /** Its place in an archive of Docker, whose images may have no names. */
  readonly position?: number
}

/** Lists the images of an archive of Docker. @throws SOURCE_INVALID */
export function dockerParts(path: string, members: ArchiveFiles): Part[] {
  return listImages(path, members).map((image, position) => ({
    names: [...new Set(referencesOf(image))],
    position,
  }))
}

/** Lists the images of a layout: entries of one name are one image, for several platforms; so are entries of one digest, under several names. */
export async function layoutParts(files: LayoutFiles, onNote: (text: string) => void): Promise<Part[]> {
  const { manifests, others } = readIndex(files.path, files.members)
  const entries = await imagesOf(manifests, files)
  const digests = (of: readonly Descriptor[]) => new Set(of.map(({ digest }) => digest))
  for (const digest of digests([...manifests, ...others]).difference(digests(entries)))
    onNote(`${digest} is not loaded: it is no image`)
  return [...Map.groupBy(entries, keyOf).values()].map((group) => {
    const texts = [...new Set(group.flatMap(namesOf))]
    const [digest, other] = new Set(group.map((entry) => entry.digest))
    // A tag alone, as umoci and skopeo write it, is no name of a registry.
    const names = texts.filter((text) => /[/:]/.test(text)).flatMap((text) => normalizeReference(text) ?? [])
    // Another image may have the same tag.
    const selector = other === undefined ? digest : texts.at(-1)
    return { names: [...new Set(names)], selector, entries: group }
  })
}

function keyOf(entry: Descriptor): string {
  const names = namesOf(entry)
  return names.length === 0 ? entry.digest : names.join('\n')
}
