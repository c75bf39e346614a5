import { isLoamError, LoamError, type RunStarter } from 'loamfs'
import {
  capabilitiesOf,
  type Conversations,
  type EventOf,
  type ReplyOf,
  type RequestOf,
} from 'loamfs/internal'
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
  'containers.provision': async (
    context,
    { image, id, backend, isReadOnly, sizeBytes, refresh, userNamespace, lazy, lazyIndex, ...request },
  ) =>
    context.loam.containers.provision(await checkPlace(image), {
      ...toImageOptions(context, request),
      id,
      backend,
      isReadOnly,
      sizeBytes,
      refresh,
      userNamespace,
      lazy,
      lazyIndex,
    }),
  'containers.provisionVolumes': async (
    context,
    { id, volumes, sandbox, backend, refresh, userNamespace, lazy, ...request },
  ) => {
    for (const { image } of volumes) await checkPlace(image)
    const place = { id, sandbox, backend, refresh, userNamespace, lazy }
    const options = { ...toImageOptions(context, request), ...place }
    return context.loam.containers.provisionVolumes(volumes, options)
  },
  'containers.provisionContainer': async (context, { image, volumes, hostMounts = [], ...request }) => {
    const { id, backend, isReadOnly, sizeBytes, refresh, userNamespace, lazy, lazyIndex, ...rest } = request
    const own = { id, backend, isReadOnly, sizeBytes, refresh, userNamespace, lazy, lazyIndex }
    for (const each of [image, ...volumes.map((volume) => volume.image)]) await checkPlace(each)
    return context.loam.containers.provisionContainer(
      { image, volumes, hostMounts, hostname: undefined },
      { ...toImageOptions(context, rest), ...own },
    )
  },
  'containers.destroy': async ({ loam, signal }, { id }) => ({
    destroyed: await loam.containers.destroy(id, { signal }),
  }),
  'containers.processes': async ({ loam }) => loam.containers.processes.list(),
  'containers.process': async ({ loam }, { id }) => loam.containers.processes.find(id),
  'containers.stop': async ({ loam, signal }, { id, timeoutMs }) => ({
    stopped: await loam.containers.processes.stop(id, { timeoutMs, signal }),
  }),
  'containers.kill': async ({ loam }, { id, signal }) => {
    await loam.containers.processes.kill(id, signal)
    return {}
  },
  'containers.start': async ({ loam }, { id }) => {
    await loam.containers.processes.start(id)
    return {}
  },
  'containers.copyFrom': async ({ loam, signal }, { id, path, hostPath, keepsOwners, followsLink }) => {
    const options = { keepsOwners, followsLink, signal }
    return loam.containers.files.copyFrom(id, path, await checkFile(hostPath), options)
  },
  'containers.copyTo': async ({ loam, signal }, { id, path, hostPath, keepsOwners, followsLink }) => {
    const options = { keepsOwners, followsLink, signal }
    return loam.containers.files.copyTo(id, await checkFile(hostPath), path, options)
  },
  'containers.recover': async (context, { known, ...request }) =>
    context.loam.containers.recover({ ...toFetchOptions(context, request), known }),
  'containers.export': async (context, { name, output, ...request }) => {
    const { format, sizeBytes, latestMs, force, mode, ...rest } = request
    await context.loam.containers.export(await checkPlace(name), {
      ...toImageOptions(context, rest),
      format,
      output: await checkFile(output),
      sizeBytes,
      latestMs,
      force,
      mode,
    })
    return {}
  },
  'containers.unexport': async ({ loam }, { directory, image }) =>
    loam.containers.unexport(directory, { image }),
}

type Run = Conversations['containers.run']

/** Runs a container whose OCI runtime the client starts. A client that disconnects meanwhile leaves the container as it is. */
export async function runContainer(
  context: Context<EventOf<Run>>,
  { image, capabilities, ...request }: RequestOf<Run>,
  ask: (event: EventOf<Run>) => Promise<ReplyOf<Run>>,
): Promise<{ readonly status: number }> {
  const { platform, imageType, dockerConfig, authFile, insecure, certsDir, ...options } = request
  const { mounts = [], volumes = [] } = options
  for (const each of [image, ...volumes.map((volume) => volume.image), ...mounts.flatMap(sourcesOf)])
    await checkPlace(each)
  const status = await context.loam.containers.run(image, {
    ...options,
    ...toImageOptions(context, { platform, imageType, dockerConfig, authFile, insecure, certsDir }),
    starter: clientStarter(capabilities, ask),
  })
  return { status }
}

type Exec = Conversations['containers.exec']

/** Runs a further process, which the client starts. A client that disconnects meanwhile leaves it as it is. */
export async function execInContainer(
  { loam }: Context<EventOf<Exec>>,
  { id, command, capabilities, ...options }: RequestOf<Exec>,
  ask: (event: EventOf<Exec>) => Promise<ReplyOf<Exec>>,
): Promise<{ readonly status: number }> {
  const starter = clientStarter(capabilities, ask)
  return { status: await loam.containers.processes.exec(id, command, { ...options, starter }) }
}

/** Returns the starter that has the client start the OCI runtime. */
function clientStarter(
  capabilities: string,
  ask: (event: EventOf<Exec>) => Promise<ReplyOf<Exec>>,
): RunStarter {
  return {
    capabilities: capabilitiesOf(BigInt(`0x${capabilities}`)),
    start: async ({ file, args, env }, { id, pidFile }) => {
      const event = { kind: 'start', id, file, args: [...args], env: { ...env }, pidFile } as const
      const reply = await ask(event).catch((error: unknown) => {
        // A client that is still there said something else than a reply: the container is removed, and the client gets the reason.
        if (isLoamError(error)) throw error
        return undefined
      })
      if (reply === undefined || 'status' in reply) return reply?.status
      throw new LoamError('RUNTIME_FAILED', `run ${file}: ${reply.failed}`)
    },
  }
}

/** Returns the sources of a mount, in the syntax of `--mount`: an image may be among them. */
function sourcesOf(mount: string): string[] {
  return [...mount.matchAll(/(?:^|,)(?:source|src)=([^,]*)/g)].map(([, source = '']) => source)
}
