import type { Command } from 'commander'
import {
  addPullOptions,
  type NamingFlags,
  type PullFlags,
  replaceOption,
  toImageOptions,
} from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addPut(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('put <file> <name>')))
    .addOption(replaceOption())
    .description('import an image from a file, directory or URL under a name')
    .addHelpText(
      'after',
      `
FILE is an archive of docker save in any of its forms, an OCI layout or an ACI; a path, file://, https:// or hdfs://, a pipe, or - for
standard input.
  docker save app | loam put - registry.lan/app:1
Of several images the one called NAME is taken; docker-archive:FILE:REF and oci-archive:FILE:TAG name another one.
  loam put app.tar registry.lan/app:1
  loam put docker-archive:all.tar:app:2 registry.lan/app:2
  loam put https://example.com/app-1.0.aci appc://example.com/app:1.0
  loam put --image-type appc ./app.aci example.com/app`,
    )
    .action(async (file: string, name: string, flags: PullFlags & NamingFlags & GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const put = await loam.images.put(file, name, {
          ...toImageOptions(flags),
          replace: flags.replace,
          signal,
          onEvent: progress.onEvent,
        })
        output.result(put, () => put.digest)
      })
    })
}
