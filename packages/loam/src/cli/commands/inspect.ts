import { type Command, Option } from 'commander'
import { isLoamError, LoamError } from '../../errors/index.ts'
import { actOnEach, throwAll } from '../for-each.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { type Inspected, inspectedView } from '../inspected-view.ts'
import { remoteDocument, remoteView } from '../remote-view.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'
import { createTemplate } from '../template/index.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

interface Flags extends GlobalOptions, PullFlags {
  readonly format?: string
  readonly remote?: boolean
  readonly raw?: boolean
  readonly referrers?: boolean
  readonly type?: string
}

export function addInspect(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('inspect <image-or-id...>')))
    .description('show details of images and containers as JSON, or of an image in its registry (--remote)')
    .addOption(
      completes(new Option('-f, --format <template>', "a Go template such as '{{.Config.Env}}', or json"), [
        'json',
      ]),
    )
    .option('--remote', 'look at the image where it is, without pulling it')
    .addOption(new Option('--raw', 'write the bytes of its manifest or index').implies({ remote: true }))
    .option('--no-referrers', 'with --remote: leave out signatures, SBOMs and attestations')
    .addOption(
      new Option('--type <type>', 'look for nothing but an image, or a container').choices([
        'image',
        'container',
      ]),
    )
    .addHelpText(
      'after',
      `
  loam inspect debian:12
  loam inspect debian:12 web                                    one JSON array of both
  loam inspect --format '{{.Config.Cmd}} {{.Architecture}}' debian:12
  loam inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' debian:12
  loam inspect --format '{{.Rootfs}} {{.State.Status}} {{.State.Pid}}' web   a container
  loam inspect --remote --format '{{.Digest}}' debian:12        digest of a tag
  loam inspect --remote --format '{{json .Platforms}}' debian:12
  loam inspect --remote --format '{{range .referrers}}{{println .kind .digest}}{{end}}' ghcr.io/owner/app:1
  loam inspect --raw debian:12 | sha256sum                      the index as the registry has it
  loam inspect --remote oci:./layout:tag                        also archives and layouts
Templates take the words of the JSON, and for images those of docker inspect and skopeo inspect: Id, RepoTags,
Config, Env, Labels, Os, Size, Layers …`,
    )
    .action(async (names: readonly string[], flags: Flags) => {
      if (flags.raw === true && names.length > 1)
        throw new LoamError('USAGE', 'inspect --raw: it writes the bytes of one image', {
          hint: 'Name one image, or leave out --raw.',
        })
      await withSession(host, flags, async (session) => inspectAll(session, names, flags))
    })
}

/** What is written of one image or container: its JSON, or what a template reads. */
interface Found {
  readonly document: unknown
  readonly view: () => unknown
}

async function inspectAll(session: Session, names: readonly string[], flags: Flags): Promise<void> {
  const { output, signal } = session
  const { format } = flags
  const template =
    output.json || format === undefined || format === 'json' ? undefined : createTemplate(format)
  const { results, failures } = await actOnEach(names, signal, async (name) =>
    flags.remote === true ? findRemote(session, name, flags) : findStored(session, name, flags),
  )
  const found = results.filter((result) => result !== undefined)
  const [first] = found
  if (template !== undefined) output.formatted(found.map(({ view }) => template(view())))
  else if (first !== undefined)
    output.document(names.length === 1 ? first.document : found.map(({ document }) => document))
  throwAll(failures)
}

async function findStored(session: Session, text: string, flags: Flags): Promise<Found> {
  const { loam } = session
  const container = flags.type === 'image' ? undefined : await inspectContainer(session, text)
  if (container === undefined && flags.type === 'container')
    throw new LoamError('CONTAINER_NOT_FOUND', `inspect ${text}: no such container`)
  const document = container ?? {
    kind: 'image' as const,
    ...(await loam.images.inspect(text, toImageOptions(flags)).catch((error: unknown) => {
      throw withRemoteHint(error, text)
    })),
  }
  return { document, view: () => inspectedView(document) }
}

async function inspectContainer({ loam, output }: Session, id: string): Promise<Inspected | undefined> {
  const container = await loam.containers.find(id)
  if (container === undefined) return undefined
  try {
    return {
      kind: 'container',
      container: { ...container, process: await loam.containers.processes.find(id) },
    }
  } catch (error) {
    // It was removed meanwhile.
    if (isLoamError(error, 'CONTAINER_NOT_FOUND')) return undefined
    if (!isLoamError(error, 'RUNTIME_FAILED')) throw error
    output.warn(error.hint === undefined ? error.message : `${error.message}. ${error.hint}`)
    return { kind: 'container', container: { ...container, process: undefined } }
  }
}

/** Returns undefined for the bytes of a manifest, which are written. */
async function findRemote(
  { loam, signal, host }: Session,
  text: string,
  flags: Flags,
): Promise<Found | undefined> {
  const { raw = false, referrers } = flags
  const found = await loam.images.inspectRemote(text, {
    ...toImageOptions(flags),
    referrers: raw ? false : referrers,
    signal,
  })
  if (!raw) return { document: remoteDocument(found), view: () => remoteView(found) }
  host.stdout.write(found.raw)
  return undefined
}

/** A name that the store does not have may be one of a registry. */
function withRemoteHint(error: unknown, text: string): unknown {
  if (!isLoamError(error, 'IMAGE_NOT_FOUND') || error.hint?.startsWith('`loam images` lists') !== true)
    return error
  const { code, message, details, hint } = error
  return new LoamError(code, message, {
    cause: error,
    details,
    hint: `${hint} \`loam inspect --remote ${text}\` looks at an image in its registry.`,
  })
}
