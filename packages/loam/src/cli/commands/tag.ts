import type { Command } from 'commander'
import {
  addPullOptions,
  type NamingFlags,
  type PullFlags,
  replaceOption,
  toImageOptions,
} from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

export function addTag(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('tag <image> <name>')))
    .addOption(replaceOption())
    .description('give an image of the store another name')
    .addHelpText(
      'after',
      `
  loam tag debian:12 registry.lan/base:1
  loam tag 4bf2067b registry.lan/base:1`,
    )
    .action(async (image: string, name: string, flags: PullFlags & NamingFlags & GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const options = { ...toImageOptions(flags), replace: flags.replace, signal }
        const tagged = await loam.images.tag(image, name, options)
        output.result(tagged, () => tagged.digest)
      })
    })
}
