import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { isLoamError, LoamError } from '../../errors/index.ts'
import type { ImageOptions } from '../../images/index.ts'
import type { RootfsInfo } from '../../provisioner/index.ts'
import { isAncestor } from '../container-rows.ts'
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

/** Returns undefined for an image that is not in the store. */
async function digestInStore(
  { images }: Session['loam'],
  name: string,
  options: ImageOptions,
): Promise<string | undefined> {
  try {
    return (await images.inspect(name, options)).image.digest
  } catch (error) {
    if (isLoamError(error, 'IMAGE_NOT_FOUND')) return undefined
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
        const chosen = flags.all === true ? mounts : names.flatMap((name) => findMounts(mounts, name))
        for (const { containerId } of new Set(chosen)) await loam.destroy(containerId, { signal })
        output.result(
          chosen.map(({ reference, rootfsPath: path }) => ({ reference, path })),
          () => chosen.map(({ rootfsPath }) => rootfsPath),
        )
      })
    })
}

function findMounts(mounts: readonly RootfsInfo[], name: string): RootfsInfo[] {
  const found = mounts.filter(
    (each) => each.rootfsPath === name || each.containerId === name || isAncestor(each, name),
  )
  if (found.length > 0) return found
  throw new LoamError('PATH_NOT_FOUND', `unmount ${name}: it is not mounted by loam mount`, {
    hint: '`loam mount` lists the mounts; `loam rm` removes containers.',
  })
}

async function mountsOf({ containers }: Session['loam']): Promise<RootfsInfo[]> {
  const all = await containers.list()
  return all
    .filter(({ id }) => id.startsWith(PREFIX))
    .flatMap(({ rootfses }) => rootfses)
    .filter(({ isReadOnly }) => isReadOnly)
}
