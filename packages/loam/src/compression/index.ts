export { ChunkPool, canGiveAway } from './chunk-memory.ts'
export { CHUNK_BYTES, decompress } from './decompress.ts'
export { hasIsal } from './isal.ts'
