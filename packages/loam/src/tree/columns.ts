/** The typed arrays that a table of records is kept in. */
export type Column = Uint8Array | Uint16Array | Uint32Array | Float64Array

/**
 * Returns the column with room for `length` records. Columns instead of objects are what keeps a file below
 * 100 bytes: an object with these fields takes some 400.
 */
export function growColumn<C extends Column>(column: C, length: number): C {
  if (length <= column.length) return column
  const size = Math.max(length, Math.ceil(column.length * 1.5), 64)
  const { BYTES_PER_ELEMENT: width, constructor } = column
  const buffer = (column.buffer as ArrayBuffer).transfer(size * width)
  return new (constructor as new (buffer: ArrayBuffer) => C)(buffer)
}
