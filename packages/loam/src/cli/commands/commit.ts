import type { Command } from 'commander'
import {
  addPullOptions,
  type NamingFlags,
  type PullFlags,
  repeated,
  replaceOption,
  toImageOptions,
  baseOption,
} from '../image-options.ts'
import type { Host } from '../host.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { sourceDateMs } from '../source-date.ts'

interface Flags extends PullFlags, NamingFlags, GlobalOptions {
  readonly change?: readonly string[]
  readonly message?: string
  readonly author?: string
  readonly base?: string
  readonly push?: boolean
}

export function addCommit(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('commit <container> <name>')))
    .description('create an image from a container with its changes, under a name, and print its digest')
    .addOption(
      repeated(
        '-c, --change <instruction>',
        'change the config by an instruction of a Dockerfile, for example ENV A=1; repeatable',
      ),
    )
    .option('-m, --message <text>', "comment in the image's history")
    .option('-a, --author <name>', 'author of the image')
    .addOption(baseOption())
    .option('--push', 'also push the image to the registry of its name')
    .addOption(replaceOption())
    .addHelpText(
      'after',
      `
  loam commit web web:2
  loam commit -m 'with curl' -c 'CMD ["nginx"]' -c ENV=A=1 web registry.lan/web:2 --push

The container may run meanwhile: files that it is writing are taken as they are. \`loam snapshot commit\` does the same for
snapshots of containerd.`,
    )
    .action(async (container: string, name: string, flags: Flags) => {
      const { change, message, author, base, replace, push } = flags
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, `commit ${container}`)
        const options = { ...toImageOptions(flags), signal, onEvent: progress.onEvent }
        const words = { changes: change, message, author, base, replace }
        const committed = await loam.images.commit(container, name, {
          ...options,
          ...words,
          createdAtMs: sourceDateMs(host),
        })
        const pushed =
          push === true ? await loam.push(name, { ...options, onPush: progress.onEvent }) : undefined
        const { notes } = progress
        output.result({ ...committed, pushed, notes }, () => pushed?.digest ?? committed.digest)
      })
    })
}
