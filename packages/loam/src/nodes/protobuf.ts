// Messages of Protobuf by their field numbers, for the few calls that Loam makes to containerd.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

type Fields = Readonly<Record<number, (reader: BinaryReader) => void>>

/** Reads the fields of a message that have a reader, and skips all others: those of a length in `fields`, numbers in `numbers`. */
export function readFields(bytes: Uint8Array, fields: Fields, numbers: Fields = {}): void {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag()
    const read = type === WireType.LengthDelimited ? fields[number] : numbers[number]
    if (read === undefined || (type !== WireType.LengthDelimited && type !== WireType.Varint))
      reader.skip(type, number)
    else read(reader)
  }
}

/** Reads an entry of a map of texts. */
export function readEntry(bytes: Uint8Array): [string, string] {
  const entry: [string, string] = ['', '']
  readFields(bytes, {
    1: (reader) => {
      entry[0] = reader.string()
    },
    2: (reader) => {
      entry[1] = reader.string()
    },
  })
  return entry
}

/** A field: a text, bytes, a number, texts of a repeated field, or a map of texts. */
type Value = string | Uint8Array | number | readonly string[] | Readonly<Record<string, string>>

/** Writes a message from its fields, by their numbers. */
export function writeFields(fields: Readonly<Record<number, Value>>): Uint8Array {
  const writer = new BinaryWriter()
  for (const [key, value] of Object.entries(fields)) {
    const number = Number(key)
    if (typeof value === 'number') writer.tag(number, WireType.Varint).int64(value)
    else if (typeof value === 'string') writer.tag(number, WireType.LengthDelimited).string(value)
    else if (value instanceof Uint8Array) writer.tag(number, WireType.LengthDelimited).bytes(value)
    else if (Array.isArray(value))
      for (const text of value) writer.tag(number, WireType.LengthDelimited).string(text)
    else
      for (const [name, text] of Object.entries(value))
        writer.tag(number, WireType.LengthDelimited).bytes(writeFields({ 1: name, 2: text }))
  }
  return writer.finish()
}
