import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Failure, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import type { DocumentLimits } from '../image/index.ts'
import { IngestArea } from '../content/index.ts'
import type { ImageType } from '../metadata/index.ts'
import { type FolderPacker, type ImageSource, loadMesosSources } from '../sources/index.ts'
import type { PullEvent } from '../stores/index.ts'
import type { ImageServices } from './services.ts'
import type { NamingOptions } from './requests.ts'

type ImportServices = Pick<ImageServices, 'configuration' | 'cwd' | 'paths' | 'sources' | 'stores'>

/** Options of an import of a Mesos agent's stores. */
export interface MesosImportOptions extends NamingOptions {
  /** The agent's `work_dir`, or the folder of its stores. */
  readonly workDir: string
  /** Cancels the import. Images that were imported until then stay. */
  readonly signal?: AbortSignal | undefined
  /** Called with progress and notes for the user. It must not throw. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
}

/** The result of an import. */
export interface MesosImportReport {
  /** Stores that were found. */
  readonly stores: readonly {
    /** Type of its images. */
    readonly type: ImageType
    /** Absolute path. */
    readonly path: string
  }[]
  /** Imported images. */
  readonly images: readonly {
    /** Its name in the store. */
    readonly name: string
    /** Its type. */
    readonly type: ImageType
    /** Digest that the name refers to. */
    readonly digest: string
  }[]
  /** Images that could not be imported, with the reason. */
  readonly failed: readonly Failure[]
  /** Containers that the agent's provisioner still owns, with their root filesystems. */
  readonly containers: readonly string[]
}

/** The folders of an agent's stores below its work directory, unless its flags name others. */
const STORE_PARTS = ['', 'store']

/** Imports the images of a Mesos agent's stores, one after the other. @throws SOURCE_NOT_FOUND when there is no store, CANCELED */
export async function importMesos(
  services: ImportServices,
  options: MesosImportOptions,
): Promise<MesosImportReport> {
  const { signal } = options
  const workDir = resolve(services.cwd, options.workDir)
  const stores = findStores(services, workDir)
  if (stores.length === 0) {
    throw new LoamError('SOURCE_NOT_FOUND', `import ${workDir}: no image store of a Mesos agent found`, {
      hint: 'Give the stores with --docker_store_dir and --appc_store_dir; the default of an agent is /tmp/mesos/store.',
    })
  }
  const images: { name: string; type: ImageType; digest: string }[] = []
  const failed: { what: string; reason: string }[] = []
  const fail = (what: string, error: unknown) =>
    failed.push({ what, reason: toLoamError(error, 'import').message })
  for (const { type, path } of stores) {
    for (const { what, open } of await listSources(type, path, services.sources.documentLimits, fail)) {
      throwIfAborted(signal, `import ${workDir}`)
      try {
        // Files packed for one image are removed with it.
        await using area = new IngestArea(services.paths)
        const source = open(
          services.sources.packer(() => area.newPath('layer')),
          options.replace,
        )
        using stored = await services.stores[type].get(source, { ...options, cached: false, sync: true })
        images.push({ name: source.name, type, digest: stored.targetDigest })
      } catch (error) {
        throwIfAborted(signal, `import ${workDir}`)
        fail(what, error)
      }
    }
  }
  return { stores, images, failed, containers: listContainers(join(workDir, 'provisioner', 'containers')) }
}

function findStores(
  services: Pick<ImageServices, 'configuration'>,
  workDir: string,
): { type: ImageType; path: string }[] {
  const { docker_store_dir: docker, appc_store_dir: appc } = services.configuration.values
  const candidates = (type: ImageType, configured: string | undefined) =>
    configured === undefined
      ? STORE_PARTS.flatMap((part) => [join(workDir, part, type), join(workDir, part)])
      : [configured]
  const dockerPath = candidates('docker', docker).find((path) => existsSync(join(path, 'storedImages')))
  // A store of Loam has a folder of that name, too.
  const appcPath = candidates('appc', appc).find(
    (path) => existsSync(join(path, 'images')) && !existsSync(join(path, 'metadata.db')),
  )
  return [
    ...(dockerPath === undefined ? [] : [{ type: 'docker' as const, path: dockerPath }]),
    ...(appcPath === undefined ? [] : [{ type: 'appc' as const, path: appcPath }]),
  ]
}

interface ListedSource {
  readonly what: string
  readonly open: (packer: FolderPacker, mayReplace: boolean | undefined) => ImageSource
}

async function listSources(
  type: ImageType,
  path: string,
  limits: DocumentLimits,
  fail: (what: string, error: unknown) => void,
): Promise<ListedSource[]> {
  const mesos = await loadMesosSources()
  if (type === 'docker') {
    try {
      return mesos.listMesosDockerImages(path).map((image) => ({
        what: image.reference,
        open: (packer, mayReplace) => mesos.mesosDockerSource(path, image, { packer, limits, mayReplace }),
      }))
    } catch (error) {
      fail(path, error)
      return []
    }
  }
  const { images, unreadable } = mesos.listMesosAppcImages(path, limits.manifestBytes)
  for (const { path: what, reason } of unreadable) fail(what, new LoamError('SOURCE_INVALID', reason))
  return images.map((image) => ({
    what: image.id,
    open: (packer, mayReplace) => mesos.mesosAppcSource(path, image, { packer, limits, mayReplace }),
  }))
}

function listContainers(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).toSorted() : []
}
