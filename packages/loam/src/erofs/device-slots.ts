import type { DeviceSlot, ErofsDevice } from './format.ts'

const MAX_BLOCKS = 0xffffffff

/**
 * Returns the table of an image's devices. Each device is mapped behind the one before it, the first behind the image: so the image and its devices, one after
 * the other, are one disk (fs/erofs/super.c: `flatdev`, Linux 6.4), and the same image is mounted with `device=`. Files have their data in whole blocks: a tar
 * that ends within a block has no data of a file there, and the disk is without that rest.
 */
export function deviceSlots(
  devices: readonly ErofsDevice[],
  { imageBytes, blockBytes }: { readonly imageBytes: number; readonly blockBytes: number },
): DeviceSlot[] {
  let next = imageBytes / blockBytes
  const slots = devices.map(({ tag, sizeBytes }) => {
    const slot = { tag, blocks: Math.floor(sizeBytes / blockBytes), mappedBlock: next }
    next += slot.blocks
    return slot
  })
  return next <= MAX_BLOCKS ? slots : slots.map((slot) => ({ ...slot, mappedBlock: 0 }))
}
