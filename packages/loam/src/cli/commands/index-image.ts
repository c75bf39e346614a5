import { type Command, Option } from 'commander'
import { resolve } from 'node:path'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly push?: boolean
  readonly output?: string
  readonly allow?: boolean
}

export function addIndex(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('index <image>')))
    .description('make lazy indexes of the layers of an image, with which others can pull it lazily')
    .option('--push', 'push them to the repository of the image, and print the digest of the artifact')
    .addOption(completes(new Option('--output <dir>', 'write them to a directory'), 'directories'))
    .option('--allow', 'use the lazy index with this digest again, which was denied (loam fsck lists them)')
    .addHelpText(
      'after',
      `
The image need not be in the store: its layers are read from the registry where the store does not keep their blobs.

  loam index --push registry.lan/app:1
  loam index --output /srv/lazy-indexes debian:12
  loam index --allow sha256:DIGEST                  the index of a layer, not an image`,
    )
    .action(async (image: string, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        if (flags.allow === true) {
          const wasDenied = await loam.store.allowIndex(image, { signal })
          output.result({ indexDigest: image, wasDenied }, () => (wasDenied ? image : []))
          if (!wasDenied) output.note(`the lazy index ${image} was not denied`)
          return
        }
        const progress = new PullProgress(output)
        const indexed = await loam.images.index(image, {
          ...toImageOptions(flags),
          push: flags.push,
          output: flags.output === undefined ? undefined : resolve(host.cwd, flags.output),
          signal,
          onEvent: progress.onEvent,
        })
        output.result(indexed, () => indexed.artifact ?? indexed.digest)
      })
    })
}
