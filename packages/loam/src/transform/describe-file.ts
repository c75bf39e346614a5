// What a file of a folder is in a tar or an index: its owner and its xattrs.
import type { LoamError } from '../errors/index.ts'
import { type FileStat, type IdMapping, isMachineRoot, isRoot, readXattrsOf } from '../linux/index.ts'
import type { TarXattr } from '../tar/index.ts'
import { checkXattrs, isOwnerRecord, type Owner, recordedOwner } from '../tree/index.ts'
import { ContainerIds } from './container-ids.ts'
import { findForeignMark, shownXattrs } from './upper-marks.ts'

/**
 * The meaning of a folder's files:
 *   rootfs   as they are
 *   files    as they are, also names that begin with `.wh.`
 *   plain    for a copy, not for a layer: as they are, also names that begin with `.wh.`, with any xattrs, and sockets
 *   layer    as an unpacked layer: names that begin with `.wh.` are its marks
 *   overlay  as an upper folder of overlayfs, whose marks become whiteouts
 */
export type FolderMeaning = PackedAs | 'plain'

/** How a folder is packed. */
export type PackedAs = 'rootfs' | 'files' | 'layer' | 'overlay'

/** A file of the folder. Times as in a tar. */
export interface FolderFile {
  /** Its own name; empty for the folder itself. */
  readonly name: Buffer
  readonly stat: FileStat
  readonly uid: number
  readonly gid: number
  readonly xattrs: readonly TarXattr[]
}

/** Takes what there is to say about the file that is described. */
export interface FileNotes {
  readonly leaveOut: (why: string) => unknown
  readonly report: (what: string) => unknown
  readonly refuse: (why: string, hint: { readonly hint: string }) => LoamError
}

/** Describes files as the container has them. */
export class FileDescriber {
  readonly #as: FolderMeaning
  readonly #ids: ContainerIds | undefined
  readonly #notes: FileNotes

  /** `idMapping`: the user namespace of the container whose files they are; undefined for that of this process. */
  constructor(as: FolderMeaning, idMapping: IdMapping | undefined, notes: FileNotes) {
    this.#as = as
    this.#ids = idMapping === undefined ? undefined : new ContainerIds(idMapping)
    this.#notes = notes
  }

  /** Returns the owner that the container has for one of this machine. */
  toContainer(owner: Owner): Owner {
    return this.#ids?.owner(owner) ?? owner
  }

  /** Describes an open file. `found`: its xattrs as they are. @throws LAYER_UNSUPPORTED, system errors */
  describe(
    name: Buffer,
    stat: FileStat,
    fd: number,
  ): { readonly file: FolderFile; readonly found: TarXattr[] } {
    const found = readXattrsOf(fd)
    const isRecorded = this.#as !== 'layer' && this.#as !== 'plain' && !isMachineRoot()
    const { uid, gid } = isRecorded ? ownerOf(found, stat) : stat
    const owner = { uid, gid }
    const own = isRecorded ? found.filter((xattr) => !isOwnerRecord(xattr)) : found
    const ids = this.#ids
    if (ids === undefined)
      return { file: { name, stat, ...owner, xattrs: this.#keptXattrs(stat.mode, own) }, found }
    if (!ids.has(owner))
      this.#notes.report('has an owner without an ID in the user namespace: it becomes nobody')
    const xattrs = this.#keptXattrs(
      stat.mode,
      own.flatMap((xattr) => {
        const translated = ids.xattr(xattr)
        if (translated === undefined)
          this.#notes.leaveOut('capabilities of a user without an ID in the user namespace')
        return translated ?? []
      }),
    )
    return { file: { name, stat, ...ids.owner(owner), xattrs }, found }
  }

  #keptXattrs(mode: number, found: readonly TarXattr[]): TarXattr[] {
    if (this.#as === 'plain') return [...found]
    let xattrs = found
    if (this.#as === 'overlay') {
      const mark = findForeignMark(found)
      if (mark !== undefined) {
        throw this.#notes.refuse(mark, {
          hint: 'The overlay was mounted with redirect_dir, metacopy or index, which layers cannot represent.',
        })
      }
      xattrs = shownXattrs(found)
    }
    const { leftOut } = checkXattrs(xattrs, mode)
    for (const name of leftOut) this.#notes.leaveOut(`layers cannot represent its xattr ${name}`)
    const kept = xattrs.filter(({ name }) => !leftOut.includes(name.toString('latin1')))
    // GNU tar and libarchive write %3D, which containerd, Docker, podman and umoci take for a part of the name.
    const unsaid = kept.find(({ name }) => name.includes('='))
    if (unsaid === undefined) return kept
    const name = unsaid.name.toString('utf8')
    throw this.#notes.refuse(`the name of its xattr ${name} contains =, which ends a name in a tar`, {
      hint: 'Remove it: `setfattr -x NAME FILE`.',
    })
  }
}

/** Without root all files are the caller's; in a user namespace, those whose owner has no ID in it. Others were given to their owners. */
function ownerOf(xattrs: readonly TarXattr[], stat: FileStat): Owner {
  if (!isRoot() || xattrs.some(isOwnerRecord)) return recordedOwner(xattrs)
  return stat
}
