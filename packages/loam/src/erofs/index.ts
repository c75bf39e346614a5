export type { ErofsDevice } from './format.ts'
export { readLayerImage } from './layer-image.ts'
export { type ErofsEntry, type ErofsExtent, ErofsImage, type ErofsInode, type ReadAt } from './reader.ts'
export { type ErofsImageSize, type ErofsOptions, writeErofs } from './writer.ts'
