export { protectMemory } from './memory.ts'
export { type Environment, plainEnvironment, searchPath, toolEnvironment } from './environment.ts'
export { executableWords, loadPackage, ownExecutable, startThread } from './executable.ts'
export { loadKoffi } from './koffi.ts'
export { type BinaryFormat, isOfFormat, listBinaryFormats } from './binary-formats.ts'
export {
  encodeTimes,
  openDirectory,
  openDirectoryAt,
  readXattrs,
  readXattrsOf,
  setDirectoryAttributes,
} from './directory.ts'
export { createDirectoryBeneath, existsBeneath, removeDirectoryBeneath } from './directory-beneath.ts'
export { type DiskUsage, diskUsage } from './disk-usage.ts'
export {
  allocateOpenFile,
  startWriteback,
  syncDirectory,
  syncDirectorySync,
  syncFile,
  syncFileSystem,
  writeNewFileDurably,
} from './durable.ts'
export { type ErofsMount, mountErofs } from './erofs-mount.ts'
export {
  ALLOW_READ,
  answerRead,
  FAIL_READ,
  listMarkedInodes,
  markReads,
  openReadGroup,
  parseReadEvent,
  READ_EVENT_BYTES,
  type ReadAnswer,
  type ReadEvent,
  unmarkReads,
} from './fanotify.ts'
export {
  endHolder,
  findHolders,
  holdDescriptors,
  isHolding,
  protectFromOom,
  takeHeld,
} from './descriptor-holder.ts'
export { limitDescriptors } from './descriptor-limit.ts'
export { isResting, startDetached } from './detached-program.ts'
export { MappedFile } from './mapped-file.ts'
export { findStartTime, isAlive, type ProcessIdentity } from './pidfd.ts'
export {
  examineFileSystem,
  type FileSystemInfo,
  findWriteFault,
  isFull,
  PROBE_PREFIX,
  SPACE_PROBE_PREFIX,
  probeFileSystem,
} from './file-system.ts'
export { unprotect } from './file-flags.ts'
export { FileStat } from './file-stat.ts'
export { HeldDirectory, type HeldFile, showHeld } from './held-directory.ts'
export { GroupSync } from './group-sync.ts'
export { FileLock, type LockOptions } from './file-lock.ts'
export { findCommandLine } from './find-process.ts'
export { isWithin } from './is-within.ts'
export {
  type Executable,
  findExecutableInRoot,
  createDirectoryInRoot,
  ownerInRoot,
  readFileInRoot,
  readPartInRoot,
  openDirectoryInRoot,
  openFileInRoot,
} from './in-root.ts'
export {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  endWithoutHandlers,
  type Libc,
  libc,
  O_CLOEXEC,
  O_PATH,
} from './libc.ts'
export {
  findMountOf,
  findMountsBelow,
  findMountsShowing,
  findOverlayUser,
  isMountPoint,
  isOptionPath,
  type MountEntry,
  type MountsById,
  readMountsById,
  readMountTable,
  visibleMount,
} from './mount-table.ts'
export { DetachedMount, mountAt, mountBind } from './detached-mount.ts'
export { followHostPath, type RootedPath } from './rooted-path.ts'
export { findMountId, isSameMount, type MountId, mountIdOf, tableIdOf } from './mount-id.ts'
export { MAX_OVERLAY_LOWERS, mountOverlay, OVERLAY_SOURCE, type OverlayMount } from './mounts.ts'
export { openBeneath, openWithoutLinks, reopenRegular } from './open-beneath.ts'
export { unmountAll, unmountAllLater, unmountById, unmountEach, unmountTop } from './unmount.ts'
export {
  findOutput,
  isStandardOutput,
  openOutput,
  writeWhenPossible,
  type OutputTarget,
  writeFully,
  writeStandardError,
  writeStandardOutput,
} from './output.ts'
export { createPipe } from './pipe.ts'
export {
  type IdMapping,
  type IdRange,
  type FileOwner,
  hostRoot,
  NOBODY,
  parseIdMapping,
  parseIdMappingKey,
  toContainerId,
  toContainerOwner,
  toHostId,
  toHostOwner,
} from './id-mapping.ts'
export { type ImageMount, mountImage } from './image-mount.ts'
export { enforcesProjectQuota, forgetProject, limitProject } from './project-quota.ts'
export {
  createSubvolume,
  hasSubvolumeQuota,
  isSubvolume,
  limitSubvolume,
  removeSubvolume,
} from './subvolume.ts'
export { withUserNamespace } from './user-namespace.ts'
export { canConnect, findListener } from './can-connect.ts'
export { listenOnUnixSocket, sendDatagram } from './unix-socket.ts'
export { asCaller, type FileRights, type OwnFolder, requireOwnRights, withFileRights } from './file-rights.ts'
export { peerGroups, peerUser } from './peer.ts'
export {
  findProgram,
  type ProgramOptions,
  type ProgramResult,
  type ProgramStreams,
  runForeground,
  programFailed,
  runProgram,
  spawnProgram,
} from './processes.ts'
export {
  ownDirectory,
  requireProc,
  fileSystemUsage,
  freeBytes,
  hostPlatform,
  effectiveUser,
  isRoot,
  kernelRelease,
  nowMicroseconds,
  readBootId,
} from './system.ts'
export { boundingCapabilities, type LimitController, limitControllers } from './rights.ts'
export {
  canGiveFiles,
  hasIds,
  idsOfNamespace,
  isMachineRoot,
  isNamespaceRoot,
  overlayXattr,
  ownUser,
  readRootless,
  type Rootless,
} from './rootless.ts'
export { UnattachedMount } from './unattached-mount.ts'
export {
  kindOf,
  openInput,
  openRegular,
  readInput,
  readRegular,
  readStored,
  streamStored,
} from './regular-file.ts'
export { TrustedDirectory } from './trusted-directory.ts'
export { examinePath, type PathTrust } from './trusted-path.ts'
export { createDirectories } from './create-directory.ts'
export { createFolders, removeFolders } from './folders.ts'
export { replaceExisting } from './replace.ts'
export { TimeSlice } from './time-slice.ts'
export { MAX_TIMER_MS, TimeLimit } from './timers.ts'
export { removeTree, removeTreeSync } from './tree-removal.ts'
export { UnnamedFile } from './unnamed-file.ts'
export { unlinkIfThere } from './unlink.ts'
export { TreeWalk } from './tree-walk.ts'
