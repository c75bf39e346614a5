import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { isLoamError, LoamError } from '../../errors/index.ts'
import { formatReference, parseReference } from '../../image/index.ts'
import { defaultRegistryOf, type ImageOptions } from '../../images/index.ts'
import type { RootfsInfo } from '../../provisioner/index.ts'
import { actOnEach, throwAll } from '../for-each.ts'
import { formatTable } from '../format.ts'
import type { Host } from '../host.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'

/** The containers of `loam mount` have such IDs: nothing but a read-only root filesystem is removed with them. */
const PREFIX = 'mount-'

export function addMount(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('mount [image-or-container]')))
    .description(
      'mount an image read-only, pulling it if needed, and print its path; without a name, list mounts',
    )
    .addHelpText(
      'after',
      `
  trivy rootfs $(loam mount debian:12) && loam umount debian:12
  ls $(loam mount web)/etc                 the root filesystem of container web

An image is mounted once, also if it is asked for again, and stays until \`loam umount\`. It needs root, or pulls and
copies the image for a user who is not root.`,
    )
    .action(async (name: string | undefined, flags: GlobalOptions & PullFlags) => {
      await withSession(host, flags, async (session) => {
        if (name === undefined) await listMounts(session)
        else await mount(session, name, flags)
      })
    })
}

async function mount(
  { loam, output, signal }: Session,
  name: string,
  flags: GlobalOptions & PullFlags,
): Promise<void> {
  const container = await loam.containers.find(name)
  const own = container?.rootfses.find(({ volumeTarget }) => volumeTarget === undefined)
  if (own !== undefined) {
    if (!own.isStanding) {
      throw new LoamError('ROOTFS_UNMOUNTED', `mount ${name}: its root filesystem is not mounted`, {
        hint: '`loam recover` remounts it.',
      })
    }
    output.path({ id: name, path: own.rootfsPath }, own.rootfsPath)
    return
  }
  const progress = new PullProgress(output, 'mount the image')
  const options = { ...toImageOptions(flags), signal, onEvent: progress.onEvent }
  const digest = await digestInStore(loam, name, options)
  const known = (await mountsOf(loam)).find(
    ({ imageDigest, isStanding }) => imageDigest === digest && isStanding,
  )
  if (known !== undefined) {
    output.path({ id: known.containerId, path: known.rootfsPath }, known.rootfsPath)
    return
  }
  const id = `${PREFIX}${randomBytes(6).toString('hex')}`
  const { rootfsPath } = await loam.provision(name, { ...options, id, isReadOnly: true })
  output.path({ id, path: rootfsPath }, rootfsPath)
}

/** Returns undefined for an image that is not in the store, or whose documents are lost. */
async function digestInStore(
  { images }: Session['loam'],
  name: string,
  options: ImageOptions = {},
): Promise<string | undefined> {
  try {
    return (await images.inspect(name, options)).image.digest
  } catch (error) {
    if (isLoamError(error, 'IMAGE_NOT_FOUND', 'DOCUMENT_DAMAGED')) return undefined
    throw error
  }
}

async function listMounts({ loam, output }: Session): Promise<void> {
  const mounts = await mountsOf(loam)
  const rows = mounts.map(({ reference, rootfsPath }) => [reference, rootfsPath])
  output.result(
    mounts.map(({ containerId: id, reference, rootfsPath: path }) => ({ id, reference, path })),
    () => (rows.length === 0 ? [] : formatTable(['IMAGE', 'PATH'], rows)),
  )
}

export function addUmount(program: Command, host: Host): void {
  addGlobalOptions(program.command('umount [image-or-path...]'))
    .description('unmount images of `loam mount`, by their names or paths')
    .option('-a, --all', 'unmount all of them')
    .addHelpText(
      'after',
      '\n  loam umount debian:12\n  loam umount --all\n\nContainers stay as they are; `loam rm` removes them.',
    )
    .action(async (names: readonly string[], flags: GlobalOptions & { all?: boolean }) => {
      if (names.length === 0 && flags.all !== true)
        throw new LoamError('USAGE', 'unmount: no image is given', { hint: 'Give names or paths, or --all.' })
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const mounts = await mountsOf(loam)
        const wanted = flags.all === true ? mounts.map(({ containerId }) => containerId) : names
        const unmounted = new Set<RootfsInfo>()
        const { failures } = await actOnEach(wanted, signal, async (name) => {
          for (const each of await findMounts(loam, mounts, name)) {
            if (!unmounted.has(each)) await loam.destroy(each.containerId, { signal })
            unmounted.add(each)
          }
        })
        if (unmounted.size > 0 || failures.length === 0)
          output.result(
            Array.from(unmounted, ({ reference, rootfsPath: path }) => ({ reference, path })),
            () => Array.from(unmounted, ({ rootfsPath }) => rootfsPath),
          )
        throwAll(failures)
      })
    })
}

/** Finds the mounts of one image: a name means the same image as in other commands, and never several. @throws PATH_NOT_FOUND */
async function findMounts(
  loam: Session['loam'],
  mounts: readonly RootfsInfo[],
  name: string,
): Promise<RootfsInfo[]> {
  const byPlace = mounts.filter((each) => each.rootfsPath === name || each.containerId === name)
  if (byPlace.length > 0) return byPlace
  const digest = name.startsWith('/') ? undefined : await digestInStore(loam, name)
  const byDigest = mounts.filter(({ imageDigest }) => imageDigest === digest)
  if (byDigest.length > 0) return byDigest
  // The name may be of another image by now, or of none.
  const reference = fullName(loam, name)
  const byReference = mounts.filter((each) => each.reference === name || each.reference === reference)
  if (byReference.length > 0) return byReference
  throw new LoamError('PATH_NOT_FOUND', `unmount ${name}: it is not mounted by loam mount`, {
    hint: '`loam mount` lists the mounts; `loam rm` removes containers.',
  })
}

function fullName({ store }: Session['loam'], name: string): string | undefined {
  try {
    return formatReference(
      parseReference(name, defaultRegistryOf(store.configuration.values.docker_registry)),
    )
  } catch (error) {
    if (isLoamError(error)) return undefined
    throw error
  }
}

async function mountsOf({ containers }: Session['loam']): Promise<RootfsInfo[]> {
  const all = await containers.list()
  return all
    .filter(({ id }) => id.startsWith(PREFIX))
    .flatMap(({ rootfses }) => rootfses)
    .filter(({ isReadOnly }) => isReadOnly)
}
