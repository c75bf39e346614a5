import type { Command } from 'commander'
import { imageTypeOption, type PullFlags, toImageOptions } from '../image-options.ts'
import { inspectedView } from '../inspected-view.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { createTemplate } from '../template/index.ts'
import type { Host } from '../host.ts'

interface Flags extends GlobalOptions, PullFlags {
  readonly format?: string
}

export function addInspect(program: Command, host: Host): void {
  addGlobalOptions(program.command('inspect <image-or-id>'))
    .description('show details of an image or a container as JSON')
    .option('--platform <os/arch[/variant]>', 'platform to show, when the store has the image for several')
    .addOption(imageTypeOption())
    .option('-f, --format <template>', "a Go template such as '{{.Config.Env}}', or json")
    .addHelpText(
      'after',
      `
  loam inspect debian:12
  loam inspect --format '{{.Config.Cmd}} {{.Architecture}}' debian:12
  loam inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' debian:12
  loam inspect --format '{{.container.rootfses}}' web
Templates take the words of the JSON, and for images those of docker inspect: Id, RepoTags, Config, Os, Size …`,
    )
    .action(async (text: string, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const container = await loam.containers.find(text)
        const found =
          container === undefined
            ? { kind: 'image' as const, ...(await loam.images.inspect(text, toImageOptions(flags))) }
            : { kind: 'container' as const, container }
        const { format } = flags
        if (output.json || format === undefined || format === 'json') output.document(found)
        else output.formatted([createTemplate(format)(inspectedView(found))])
      })
    })
}
