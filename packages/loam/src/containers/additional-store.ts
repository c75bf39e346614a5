import { resolve } from 'node:path'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { AdditionalStores, ExportOptions, UnexportedImages, WrittenFormat } from '../exports/index.ts'
import {
  formatAnyName,
  type ImageOptions,
  type ImageServices,
  nameForOthers,
  typeOf,
} from '../images/index.ts'

/** Which images to remove from a directory. */
export interface UnexportOptions {
  /** Undefined: all, and the files of the store. */
  readonly image?: string | undefined
}

interface Services extends Pick<ImageServices, 'cwd' | 'sources' | 'stores' | 'provisioner'> {
  readonly additionalStores: AdditionalStores
}

/** Adds an image, pulled if needed, to an additional image store. @throws USAGE for a container or another option, and as `AdditionalStores.add` */
export async function exportToAdditionalStore(
  { cwd, sources, stores, provisioner, additionalStores }: Services,
  image: string,
  options: ExportOptions & ImageOptions,
): Promise<void> {
  const { output, sizeBytes, mode, force } = options
  if (provisioner.find(image) !== undefined) {
    throw new LoamError('USAGE', `export ${image} as containers-storage: it is a container`, {
      hint: 'Commit it to an image first: `loam snapshot commit`.',
    })
  }
  if (sizeBytes !== undefined || mode !== undefined || force === true || output === '-') {
    throw new LoamError(
      'USAGE',
      'export as containers-storage: the output is a directory, without --size, --mode and --force',
    )
  }
  const { name } = sources.find(image, { ...options, mayBeGone: true })
  await sources.with(name, options, async (source) => {
    using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote, sync: true })
    await additionalStores.add({
      directory: resolve(cwd, output),
      name: nameForOthers(source),
      image: stored.record,
      signal: options.signal,
    })
  })
}

/** Removes images from an additional image store. @throws as `AdditionalStores.remove` */
export async function removeFromAdditionalStore(
  { cwd, sources, additionalStores }: Services,
  directory: string,
  image: string | undefined,
): Promise<UnexportedImages> {
  const path = resolve(cwd, directory)
  if (image === undefined) return additionalStores.remove(path)
  try {
    const { name } = sources.find(image)
    return await additionalStores.remove(path, name.transport === 'store' ? name.digest : formatAnyName(name))
  } catch (error) {
    if (!isLoamError(error, 'REFERENCE_INVALID')) throw error
    return additionalStores.remove(path, image)
  }
}

/** Returns whether an export is a file or a directory of its own. */
export function isWritten<Options extends ExportOptions>(
  options: Options,
): options is Options & { readonly format: WrittenFormat } {
  return options.format !== 'containers-storage'
}
