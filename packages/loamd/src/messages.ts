import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'

/** Returns the function that turns messages of a kind into bytes, for grpc-js. */
export function encode<Schema extends DescMessage>(
  schema: Schema,
): (message: MessageShape<Schema>) => Buffer {
  return (message) => Buffer.from(toBinary(schema, message))
}

/** Returns the function that reads messages of a kind, for grpc-js. */
export function decode<Schema extends DescMessage>(schema: Schema): (bytes: Buffer) => MessageShape<Schema> {
  return (bytes) => fromBinary(schema, bytes)
}
