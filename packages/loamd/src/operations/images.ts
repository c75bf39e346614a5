import { LoamError } from 'loamfs'
import {
  archiveAddress,
  type Downloads,
  type EventOf,
  type RequestOf,
  type ResultOf,
  type Uploads,
} from 'loamfs/internal'
import {
  type Actions,
  checkFile,
  checkPlace,
  type Context,
  toFetchOptions,
  toImageOptions,
} from './context.ts'

/** A name that is not an absolute path is a URL. */
const PLACE = /^(?:\/|[a-z][a-z0-9+.-]*:\/)/

/** Operations on images. */
export const IMAGE_ACTIONS: Actions<'images'> = {
  'images.list': async ({ loam }) => loam.images.list(),
  'images.inspect': async (context, { image, ...request }) =>
    context.loam.images.inspect(await checkPlace(image), toImageOptions({ signal: context.signal }, request)),
  'images.copy': async (context, { from, to, referrers, force, mode, ...request }) =>
    context.loam.images.copy(await checkPlace(from), await checkPlace(to), {
      ...toImageOptions(context, request),
      referrers,
      force,
      mode,
      onCopy: context.onEvent,
    }),
  'images.save': async (context, { images, output, format, force, mode, ...request }) => {
    for (const image of images) await checkPlace(image)
    return context.loam.images.save(images, await checkFile(output), {
      ...toImageOptions(context, request),
      format,
      force,
      mode,
      onSave: context.onEvent,
    })
  },
  'images.load': async (context, { address, replace, ...request }) => {
    const path = archiveAddress(address)
    if (!PLACE.test(path))
      throw new LoamError('USAGE', `load ${address}: it is neither an absolute path nor a URL`)
    await checkFile(path)
    return context.loam.images.load(address, { ...toImageOptions(context, request), replace })
  },
  'images.tags': async ({ loam, signal }, { repository, ...request }) =>
    loam.images.tags(repository, toFetchOptions({ signal }, request)),
  'images.inspectRemote': async ({ loam, signal }, { image, referrers, ...request }) =>
    loam.images.inspectRemote(await checkPlace(image), { ...toImageOptions({ signal }, request), referrers }),
  'images.contents': async (context, { image, path, layer, ...request }) =>
    context.loam.images.contents(await checkPlace(image), {
      ...toImageOptions({ signal: context.signal }, request),
      path,
      layer,
    }),
  'images.disks': async (context, { image, ...request }) =>
    context.loam.images.disks(await checkPlace(image), toImageOptions(context, request)),
  'images.history': async (context, { image, ...request }) =>
    context.loam.images.history(await checkPlace(image), toImageOptions({ signal: context.signal }, request)),
  'images.layers': async (context, { image, largest, ...request }) =>
    context.loam.images.layers(await checkPlace(image), {
      ...toImageOptions({ signal: context.signal }, request),
      largest,
    }),
  'images.diff': async (context, { from, to, times, ...request }) =>
    context.loam.images.diff(await checkPlace(from), to === undefined ? undefined : await checkPlace(to), {
      ...toImageOptions({ signal: context.signal }, request),
      times,
    }),
  'images.pull': async (context, { image, lazy, lazyIndex, ...request }) =>
    context.loam.images.pull(await checkPlace(image), {
      ...toImageOptions(context, request),
      lazy,
      lazyIndex,
    }),
  'images.put': async (context, { address, name, replace, ...request }) => {
    if (!PLACE.test(address)) {
      throw new LoamError('USAGE', `put ${address}: it is neither an absolute path nor a URL`)
    }
    return context.loam.images.put(await checkFile(address), name, {
      ...toImageOptions(context, request),
      replace,
    })
  },
  'images.importMesos': async ({ loam, signal, onEvent }, request) =>
    loam.images.importMesos({ ...request, signal, onEvent }),
  'images.push': async (context, { image, to, allPlatforms, replaceIndex, index, ...request }) =>
    context.loam.images.push(await checkPlace(image), {
      ...toImageOptions(context, request),
      to,
      allPlatforms,
      replaceIndex,
      index,
      onPush: context.onEvent,
    }),
  'images.index': async (context, { image, push, output, ...request }) =>
    context.loam.images.index(await checkPlace(image), { ...toImageOptions(context, request), push, output }),
  'images.tag': async (context, { image, name, replace, ...request }) =>
    context.loam.images.tag(await checkPlace(image), name, { ...toImageOptions(context, request), replace }),
  'images.untag': async ({ loam }, { name, imageType }) =>
    loam.images.untag(await checkPlace(name), { imageType }),
  'images.remove': async (context, { image, ...request }) => ({
    removed: await context.loam.images.remove(
      await checkPlace(image),
      toImageOptions({ signal: context.signal }, request),
    ),
  }),
  'images.prune': async ({ loam }, { dryRun = false, excluded = [], ...request }) => {
    for (const image of excluded) await checkPlace(image)
    return loam.images.prune({ ...request, dryRun, excluded })
  },
  'images.collect': async ({ loam }, { dryRun = false }) => loam.images.collect({ dryRun }),
  'images.commit': async (
    context,
    { id, name, base, replace, changes, message, author, createdAtMs, ...request },
  ) =>
    context.loam.images.commit(id, name, {
      ...toImageOptions(context, request),
      base: await checkPlace(base),
      ...{ replace, changes, message, author, createdAtMs },
    }),
}

type PutStream = Uploads['images.upload']

/** Imports the image of an archive that a client sends. */
export async function uploadImage(
  context: Context<EventOf<PutStream>>,
  { name, replace, ...request }: RequestOf<PutStream>,
  body: AsyncIterable<Uint8Array>,
): Promise<ResultOf<PutStream>> {
  return context.loam.images.put(body, name, { ...toImageOptions(context, request), replace })
}

/** Imports all images of an archive that a client sends. */
export async function uploadImages(
  context: Context<EventOf<Uploads['images.uploadAll']>>,
  { replace, ...request }: RequestOf<Uploads['images.uploadAll']>,
  body: AsyncIterable<Uint8Array>,
): Promise<ResultOf<Uploads['images.uploadAll']>> {
  return context.loam.images.load(body, { ...toImageOptions(context, request), replace })
}

/** Writes images to a pipe as one archive. */
export async function downloadImages(
  context: Context<unknown>,
  { images, format, ...request }: RequestOf<Downloads['images.download']>,
  output: string,
): Promise<ResultOf<Downloads['images.download']>> {
  for (const image of images) await checkPlace(image)
  return context.loam.images.save(images, output, { ...toImageOptions(context, request), format })
}
