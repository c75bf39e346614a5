import { LoamError } from 'loamfs'
import type { Downloads, RequestOf } from 'loamfs/internal'
import {
  type Actions,
  checkFile,
  checkPlace,
  type Context,
  toFetchOptions,
  toImageOptions,
} from './context.ts'

/** Operations on containers. */
export const CONTAINER_ACTIONS: Actions<'containers'> = {
  'containers.list': async ({ loam }) => loam.containers.list(),
  'containers.inspect': async ({ loam }, { id }) => {
    const found = await loam.containers.find(id)
    if (found !== undefined) return found
    throw new LoamError('CONTAINER_NOT_FOUND', `inspect ${id}: no such container`)
  },
  'containers.provision': async (context, { image, id, backend, isReadOnly, refresh, ...request }) =>
    context.loam.containers.provision(await checkPlace(image), {
      ...toImageOptions(context, request),
      id,
      backend,
      isReadOnly,
      refresh,
    }),
  'containers.provisionVolumes': async (context, { id, volumes, sandbox, backend, refresh, ...request }) => {
    for (const { image } of volumes) await checkPlace(image)
    const options = { ...toImageOptions(context, request), id, sandbox, backend, refresh }
    return context.loam.containers.provisionVolumes(volumes, options)
  },
  'containers.provisionContainer': async (context, { image, volumes, hostMounts = [], ...request }) => {
    const { id, backend, isReadOnly, refresh, ...rest } = request
    for (const each of [image, ...volumes.map((volume) => volume.image)]) await checkPlace(each)
    return context.loam.containers.provisionContainer(
      { image, volumes, hostMounts, hostname: undefined },
      { ...toImageOptions(context, rest), id, backend, isReadOnly, refresh },
    )
  },
  'containers.destroy': async ({ loam, signal }, { id }) => ({
    destroyed: await loam.containers.destroy(id, { signal }),
  }),
  'containers.recover': async (context, { known, ...request }) =>
    context.loam.containers.recover({ ...toFetchOptions(context, request), known }),
  'containers.export': async (context, { name, format, output, sizeBytes, force, mode, ...request }) => {
    await context.loam.containers.export(await checkPlace(name), {
      ...toImageOptions(context, request),
      format,
      output: await checkFile(output),
      sizeBytes,
      force,
      mode,
    })
    return {}
  },
}

/** Writes an image or a container to a pipe. */
export async function downloadContainer(
  context: Context<unknown>,
  { name, format, sizeBytes, ...request }: RequestOf<Downloads['containers.download']>,
  output: string,
): Promise<void> {
  const options = { ...toImageOptions(context, request), format, sizeBytes, output }
  await context.loam.containers.export(await checkPlace(name), options)
}
