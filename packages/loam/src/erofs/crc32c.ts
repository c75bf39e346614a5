const TABLE = new Uint32Array(256).map((_zero, index) => {
  let value = index
  for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value
})

/** CRC-32C (Castagnoli) as the kernel's crc32c() computes it: the start value is given, and nothing is inverted at the end. */
export function crc32c(start: number, bytes: Uint8Array): number {
  let value = start
  for (let index = 0; index < bytes.length; index += 1) {
    value = (TABLE[(value ^ (bytes[index] ?? 0)) & 0xff] ?? 0) ^ (value >>> 8)
  }
  return value >>> 0
}
