// Operations on containers that send or take a stream.
import { openSync, closeSync, constants } from 'node:fs'
import {
  type Downloads,
  type RequestOf,
  type ResultOf,
  type Uploads,
  writeWhenPossible,
} from 'loamfs/internal'
import { checkPlace, type Context, toImageOptions } from './context.ts'

/** Writes an image or a container to a pipe. */
export async function downloadContainer(
  context: Context<unknown>,
  { name, format, sizeBytes, latestMs, ...request }: RequestOf<Downloads['containers.download']>,
  output: string,
): Promise<undefined> {
  const options = { ...toImageOptions(context, request), format, sizeBytes, latestMs, output }
  await context.loam.containers.export(await checkPlace(name), options)
}

/** Writes the output of a detached process to a pipe. */
export async function downloadLogs(
  { loam, signal }: Context<unknown>,
  { id, tail, follow }: RequestOf<Downloads['containers.logs']>,
  output: string,
): Promise<undefined> {
  const fd = openSync(output, constants.O_WRONLY | constants.O_NONBLOCK)
  try {
    const options = { tail, follow, signal }
    for await (const chunk of loam.containers.processes.logs(id, options))
      await writeWhenPossible(fd, chunk, signal)
  } finally {
    closeSync(fd)
  }
}

/** Writes files of a container to a pipe. */
export async function packFiles(
  { loam, signal }: Context<unknown>,
  { id, path, followsLink }: RequestOf<Downloads['containers.pack']>,
  output: string,
): Promise<ResultOf<Downloads['containers.pack']>> {
  return loam.containers.files.pack(id, path, output, { followsLink, signal })
}

/** Unpacks a tar that a client sends. */
export async function unpackFiles(
  { loam, signal }: Context<never>,
  { id, path }: RequestOf<Uploads['containers.unpack']>,
  body: AsyncIterable<Uint8Array>,
): Promise<ResultOf<Uploads['containers.unpack']>> {
  return loam.containers.files.unpack(id, body, path, { signal })
}
