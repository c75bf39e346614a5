import { type Command, Option } from 'commander'
import type { ProvisionedVolume } from '../../containers/index.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import {
  addUserNamespaceOptions,
  toUserNamespace,
  type UserNamespaceFlags,
} from '../user-namespace-options.ts'
import type { Host } from '../host.ts'
import { LoamError } from '../../errors/index.ts'
import { completes } from '../completion/values.ts'
import { backendOption } from '../run-options.ts'

interface Flags extends PullFlags, GlobalOptions, UserNamespaceFlags {
  readonly id: string
  readonly backend?: string
  readonly sandbox?: string
  readonly readOnly?: boolean
}

export function addVolume(program: Command, host: Host): void {
  addUserNamespaceOptions(addPullOptions(addGlobalOptions(program.command('volume <image=target...>'))))
    .description('mount images as volumes of a container until it is destroyed')
    .addOption(
      completes(
        new Option('--id <id>', 'container that owns the volumes; created if it does not exist'),
        'containers',
      ).makeOptionMandatory(),
    )
    .addOption(backendOption())
    .addOption(
      completes(
        new Option(
          '--sandbox <dir>',
          'directory for relative targets, for a container without a root filesystem',
        ),
        'directories',
      ),
    )
    .option('--read-only', 'mount the volumes read-only')
    .addHelpText(
      'after',
      `
TARGET is a path in the container's root filesystem; a relative one is in its sandbox folder. For a container
without a root filesystem it is an existing folder of this machine, or a relative one in --sandbox.
  loam volume --id web debian:12=/data busybox=tools
  loam volume --id job --sandbox /srv/job --read-only busybox=tools`,
    )
    .action(async (pairs: readonly string[], flags: Flags) => {
      const volumes = pairs.map((pair) => ({ ...parsePair(pair), isReadOnly: flags.readOnly }))
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, 'mount the image')
        const made = await loam.containers.provisionVolumes(volumes, {
          ...toImageOptions(flags),
          id: flags.id,
          backend: flags.backend,
          sandbox: flags.sandbox,
          userNamespace: toUserNamespace(flags),
          signal,
          onEvent: progress.onEvent,
        })
        const rows = made.map(describeVolume)
        output.result(rows, () => made.map(({ rootfs }) => rootfs.volumeTarget ?? ''))
      })
    })
}

/** Returns the JSON description of an image volume. */
export function describeVolume({
  rootfs,
  containerPath,
  isReadOnly,
}: ProvisionedVolume): Readonly<Record<string, unknown>> {
  return {
    image: rootfs.image.name,
    target: rootfs.volumeTarget,
    containerPath,
    rootfs: rootfs.rootfsPath,
    readOnly: isReadOnly,
    ephemeralVolumes: rootfs.ephemeralVolumes,
  }
}

/** The last equals sign separates, because labels of an image contain some, too. */
function parsePair(pair: string): { image: string; target: string } {
  const equals = pair.lastIndexOf('=')
  if (equals > 0 && equals < pair.length - 1) {
    return { image: pair.slice(0, equals), target: pair.slice(equals + 1) }
  }
  throw new LoamError('USAGE', `read ${JSON.stringify(pair)}: expected IMAGE=TARGET`)
}
