import { type Command, InvalidArgumentError } from 'commander'
import { isLoamError, LoamError } from '../../errors/index.ts'
import type { ContentsOptions, ImageContents } from '../../images/index.ts'
import { formatBytes } from '../format.ts'
import type { Host } from '../host.ts'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'

interface Flags extends GlobalOptions, PullFlags {
  readonly layer?: number
  readonly depth?: number
  readonly bytes?: boolean
  readonly summarize?: boolean
}

/** One name with the size of all below it. */
interface Sized {
  readonly path: string
  readonly type: string
  readonly bytes: number
  readonly files: number
  readonly hiddenBytes: number
}

const MAX_DEPTH = 64
/** More directories are not read. */
const MAX_DIRECTORIES = 10_000

export function addDu(program: Command, host: Host): void {
  addGlobalOptions(program.command('du <image> [path]'))
    .description('show the sizes of the files and directories of an image, the largest first')
    .option('--layer <number>', 'look into one layer, base first, from 0', parseNumber)
    .option('-d, --depth <number>', 'how many levels of directories to list (default: 1)', parseNumber)
    .option('-s, --summarize', 'print only the sum')
    .option('-b, --bytes', 'print sizes in bytes')
    .option('--platform <os/arch[/variant]>', 'platform to show, when the store has the image for several')
    .addOption(imageTypeOption())
    .addHelpText(
      'after',
      `
Sizes are the data of files: a hard-linked file counts once, and holes do not. Nothing is unpacked.
In one layer, HIDDEN is what later layers hide, and whiteouts are names that the layer removes.
  loam du debian:12
  loam du -d 2 debian:12 /usr
  loam du --layer 1 debian:12 /var/cache`,
    )
    .action(async (image: string, path: string | undefined, flags: Flags) => {
      await withSession(host, flags, async (session) => {
        await requireImage(session, image)
        const options = { ...toImageOptions(flags), layer: flags.layer, signal: session.signal }
        const depth = flags.summarize === true ? 0 : (flags.depth ?? 1)
        const top = await readTop(session, image, { ...options, path })
        const sum = { path: top.path, type: top.type, ...sizesOf(top) }
        const reader = new Reader(session, image, options)
        const entries = [...(depth === 0 ? [] : await reader.list(top, depth)), sum]
        const { output } = session
        const { digest } = top
        const { leftOut, unread } = reader
        output.result({ digest, layer: flags.layer, path: top.path, entries, leftOut, unread }, () =>
          format(entries, flags),
        )
        if (unread > 0)
          output.difference(
            `the content of ${unread} directories is not listed: \`loam du -d N ${image} DIRECTORY\` lists less at once`,
          )
        if (leftOut > 0) output.difference(`${leftOut} smaller names are left out`)
      })
    })
}

/** Reads a directory, or a file as a directory without names. @throws PATH_NOT_FOUND */
async function readTop(
  { loam }: Session,
  image: string,
  options: ContentsOptions,
): Promise<ImageContents & { readonly type: string }> {
  try {
    return { ...(await loam.images.contents(image, options)), type: 'directory' }
  } catch (error) {
    const [, parent, name] = /^(.*?)\/*([^/]+)\/*$/.exec(options.path ?? '') ?? []
    if (!isLoamError(error, 'PATH_NOT_FOUND') || name === undefined) throw error
    const above = await loam.images.contents(image, { ...options, path: parent })
    const found = above.entries.find((entry) => entry.name === name)
    if (found === undefined) {
      const hint = `\`loam du ${image} ${above.path}\` lists what is there.`
      throw new LoamError('PATH_NOT_FOUND', error.message, { hint, cause: error })
    }
    const path = `${above.path === '/' ? '' : above.path}/${name}`
    return { ...above, ...found, path, entries: [], leftOut: 0 }
  }
}

async function requireImage({ loam }: Session, image: string): Promise<void> {
  const container = await loam.containers.find(image)
  if (container === undefined) return
  const path = container.rootfses[0]?.rootfsPath
  throw new LoamError('USAGE', `du ${image}: it is a container`, {
    hint: `Use \`du -sh ${path ?? 'ROOTFS'}\`, or \`loam diff ${image}\` for what it has changed.`,
  })
}

/** Reads directories of an image, one after the other. */
class Reader {
  readonly #session: Session
  readonly #image: string
  readonly #options: ContentsOptions
  #directories = 0
  /** Names that are not listed. */
  leftOut = 0
  /** Directories whose content is not listed because there are too many. */
  unread = 0

  constructor(session: Session, image: string, options: ContentsOptions) {
    this.#session = session
    this.#image = image
    this.#options = options
  }

  /** Lists what is below a directory, down to a depth. */
  async list(level: ImageContents, depth: number): Promise<Sized[]> {
    this.leftOut += level.leftOut
    const listed: Sized[] = []
    for (const entry of level.entries) {
      const path = `${level.path === '/' ? '' : level.path}/${entry.name}`
      const isRead = entry.type === 'directory' && depth > 1
      if (isRead && this.#directories >= MAX_DIRECTORIES) this.unread += 1
      else if (isRead) {
        this.#directories += 1
        const below = await this.#session.loam.images.contents(this.#image, { ...this.#options, path })
        listed.push(...(await this.list(below, depth - 1)))
      }
      listed.push({ path, type: entry.type, ...sizesOf(entry) })
    }
    return listed
  }
}

function sizesOf({ bytes, files, hiddenBytes }: Pick<Sized, 'bytes' | 'files' | 'hiddenBytes'>) {
  return { bytes, files, hiddenBytes }
}

function format(entries: readonly Sized[], { layer, bytes: isExact }: Flags): string[] {
  const size = (bytes: number) => (isExact === true ? String(bytes) : formatBytes(bytes))
  const width = entries.reduce((widest, { bytes }) => Math.max(widest, size(bytes).length), 8)
  return entries.map(({ path, type, bytes, hiddenBytes }) => {
    const name = type === 'directory' && path !== '/' ? `${path}/` : path
    const mark = type === 'whiteout' ? '  (removed)' : ''
    const hidden = layer === undefined || hiddenBytes === 0 ? '' : `  (${size(hiddenBytes)} hidden)`
    return `${size(bytes).padStart(width)}  ${name}${mark}${hidden}`
  })
}

function parseNumber(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('Give a number from 0 on.')
  return Math.min(Number(text), MAX_DEPTH * 1024)
}
