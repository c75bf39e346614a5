import type { RemoteImage } from '../images/index.ts'
import { configView } from './inspected-view.ts'

/** Returns what `loam inspect --remote` writes: the image without the text of its index, whose JSON is in it. */
export function remoteDocument({ raw, ...image }: RemoteImage): unknown {
  return { kind: 'remote image', ...image, document: parsed(raw) }
}

/** Returns what a template of `loam inspect --remote` reads: the fields of the JSON, and those of `skopeo inspect` and `docker inspect`. */
export function remoteView(found: RemoteImage): Readonly<Record<string, unknown>> {
  const { image, name, digest } = found
  const view = configView(image?.config)
  const config = view['Config'] as Readonly<Record<string, unknown>>
  return {
    ...(remoteDocument(found) as object),
    ...view,
    Name: name.replace(/@.*$/, '').replace(/:[^:/]*$/, ''),
    Digest: digest,
    Id: image?.configDigest,
    Size: image?.sizeBytes,
    Layers: image?.layers.map((layer) => layer.digest) ?? [],
    LayersData: (image?.layers ?? []).map((layer) => ({
      MIMEType: layer.mediaType,
      Digest: layer.digest,
      Size: layer.sizeBytes,
    })),
    Env: config['Env'] ?? [],
    Labels: config['Labels'] ?? {},
    Platforms: found.platforms.map(({ platform }) => platform),
  }
}

function parsed(raw: string): unknown {
  try {
    return JSON.parse(raw)
  } catch {
    return undefined
  }
}
