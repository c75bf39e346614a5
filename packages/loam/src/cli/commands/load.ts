import { type Command, Option } from 'commander'
import { LoamError } from '../../errors/index.ts'
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
import { completes } from '../completion/values.ts'

interface Flags extends PullFlags, NamingFlags, GlobalOptions {
  readonly input?: string
}

export function addLoad(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('load [file]')))
    .description(
      'import all images of a file of `docker save`, `podman save` or `loam save` under their names',
    )
    .addOption(
      completes(
        new Option('-i, --input <file>', 'file, directory or URL (default: standard input)'),
        'files',
      ),
    )
    .addOption(replaceOption())
    .addHelpText(
      'after',
      `
The format is detected: docker-archive, oci-archive, an OCI layout, compressed or not. \`loam put FILE NAME\` gives an
image another name.
  loam load -i app.tar
  docker save app:1 | loam load
  loam load < app.tar.gz`,
    )
    .action(async (file: string | undefined, flags: Flags) => {
      if (file !== undefined && flags.input !== undefined)
        throw new LoamError('USAGE', 'load: one file is loaded at a time')
      const address = file ?? flags.input ?? '-'
      if (address === '-') host.requireOwnProcess()
      if (address === '-' && host.stdin.isTerminal)
        throw new LoamError('USAGE', 'load: standard input is a terminal', {
          hint: 'Name a file with --input, or redirect standard input.',
        })
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const loaded = await loam.images.load(address, {
          ...toImageOptions(flags),
          replace: flags.replace,
          signal,
          onEvent: progress.onEvent,
        })
        progress.summarize('loaded')
        output.result(loaded, () =>
          loaded.flatMap(({ names, digest }) =>
            names.length === 0 ? [`Loaded image: ${digest}`] : names.map((name) => `Loaded image: ${name}`),
          ),
        )
      })
    })
}
