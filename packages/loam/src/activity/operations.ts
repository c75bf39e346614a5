/** All operations that events report, and their parts. */
export const OPERATION_NAMES = [
  'containers.copyFrom',
  'containers.copyTo',
  'containers.destroy',
  'containers.exec',
  'containers.export',
  'containers.kill',
  'containers.pack',
  'containers.provision',
  'containers.provisionVolumes',
  'containers.recover',
  'containers.run',
  'containers.start',
  'containers.stop',
  'containers.unexport',
  'containers.unpack',
  'images.collect',
  'images.commit',
  'images.copy',
  'images.diff',
  'images.disks',
  'images.importMesos',
  'images.index',
  'images.load',
  'images.prune',
  'images.pull',
  'images.push',
  'images.put',
  'images.remove',
  'images.save',
  'images.tag',
  'images.untag',
  'layer',
  'layers.denyIndex',
  'snapshots.adopt',
  'snapshots.apply',
  'snapshots.commit',
  'snapshots.commitImage',
  'snapshots.diff',
  'snapshots.fetchContent',
  'snapshots.import',
  'snapshots.leave',
  'snapshots.prepare',
  'snapshots.remove',
  'snapshots.update',
  'snapshots.view',
  'store.allowIndex',
  'store.fsck',
  'store.usage',
] as const

/** The name of an operation, or of a part of one. */
export type OperationName = (typeof OPERATION_NAMES)[number]

/** Returns whether an operation is what a word means: its own name as `images.pull`, or its kind of object as `images`. */
export function fitsOperation(word: string, operation: string): boolean {
  return operation === word || operation.startsWith(`${word}.`)
}

/** Returns whether a word means any operation. */
export function meansOperation(word: string): boolean {
  return OPERATION_NAMES.some((name) => fitsOperation(word, name))
}
