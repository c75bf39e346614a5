import type { Command } from 'commander'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { modeOption } from '../output-mode.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends PullFlags, GlobalOptions {
  readonly referrers?: boolean
  readonly force?: boolean
  readonly mode?: number
}

export function addCopy(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('copy <source> <destination>')))
    .description('copy an image between registries, layouts and archives, unchanged, and print its digest')
    .option('-a, --all', 'accepted: all platforms are copied unless --platform names one')
    .option('--referrers', 'also copy signatures, SBOMs and attestations, between registries')
    .option(
      '--force',
      'replace an existing archive, and with --referrers the signatures that the destination has',
    )
    .addOption(modeOption())
    .addHelpText(
      'after',
      `
Both are named as in skopeo; a name without a transport is one of a registry. The store is not used: \`loam push\` and
\`loam save\` write images of the store. docker-archive holds one platform: that of this machine, or --platform.
  loam copy ghcr.io/owner/app:1 registry.lan:5000/app:1
  loam copy --referrers ghcr.io/owner/app:1 registry.lan:5000/app:1
  loam copy --platform linux/arm64 debian:12 oci:./layout:12
  loam copy debian:12 oci-archive:debian.tar              for an air gap: loam load -i debian.tar
  loam copy docker://debian:12 docker-archive:-:debian:12 | docker load`,
    )
    .action(async (from: string, to: string, flags: Flags) => {
      // Standard output is the caller's.
      if (/^(?:oci|docker)-archive:-(?::|$)/.test(to)) host.requireOwnProcess()
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const { referrers, force, mode } = flags
        const progress = new PullProgress(output)
        const copied = await loam.images.copy(from, to, {
          ...toImageOptions(flags),
          referrers,
          force,
          mode,
          signal,
          onCopy: progress.onEvent,
          onEvent: progress.onEvent,
        })
        progress.summarize('copied')
        for (const { kind, tag } of copied.keptReferrers)
          output.difference(
            `kept the ${kind} that ${to} has under ${tag}, and did not copy that of ${from}; --force replaces it`,
          )
        const isToOutput = /^(?:oci|docker)-archive:(?:-|\/dev\/stdout)(?::|$)/.test(to)
        if (isToOutput) output.note(copied.digest)
        else output.result(copied, () => copied.digest)
      })
    })
}
