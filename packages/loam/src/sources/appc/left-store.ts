/*
 * The Appc store of a Mesos agent as a location of images. It is read once for each request.
 */
import { isAppcLatest, type AppcName, type DocumentLimits } from '../../image/index.ts'
import { findMatching, listMesosAppcImages, type MesosAppcImage } from './mesos-cache.ts'

/** The images that an agent left. */
export interface LeftStore {
  /** Finds the image that a request names. A request for the latest one finds nothing: only its location knows the latest. */
  readonly find: (wanted: AppcName) => MesosAppcImage | undefined
  /** Finds all images that a request may refer to, of any version. */
  readonly findAll: (wanted: AppcName) => readonly MesosAppcImage[]
  /** The entries of the store that cannot be used, with the reasons. */
  readonly skipped: () => readonly string[]
}

/** Opens a store; undefined if there is none. Invalid images in it are reported when they are read. */
export function openLeftStore(
  folder: string | undefined,
  { manifestBytes }: DocumentLimits,
  onNote: (text: string) => void,
): LeftStore {
  let listed: ReturnType<typeof listMesosAppcImages> | undefined
  const list = () => {
    if (listed !== undefined) return listed
    listed =
      folder === undefined ? { images: [], unreadable: [] } : listMesosAppcImages(folder, manifestBytes)
    for (const { path, reason } of listed.unreadable) onNote(`skipped ${path}: ${reason}`)
    return listed
  }
  const findAll = (wanted: AppcName) => findMatching(list().images, wanted)
  return {
    find: (wanted) => (isAppcLatest(wanted) ? undefined : findAll(wanted)[0]),
    findAll,
    skipped: () => list().unreadable.map(({ path, reason }) => `${path}: ${reason}`),
  }
}
