import { type Command, Option } from 'commander'
import { type NamingFlags, replaceOption } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

export function addImport(program: Command, host: Host): void {
  addGlobalOptions(program.command('import'))
    .description('import images from the stores of a Mesos agent')
    .addOption(
      completes(
        new Option('--from-mesos <dir>', "the agent's work_dir, or the directory of its stores"),
        'directories',
      ).makeOptionMandatory(),
    )
    .addOption(replaceOption())
    .addHelpText(
      'after',
      `
The stores are DIR/store/docker, DIR/docker or DIR, and the same for appc, or the directories of --docker_store_dir
and --appc_store_dir. They are not changed. Images that cannot be imported are reported, and the others are imported.
  loam import --from-mesos /var/lib/mesos --docker_store_dir /tmp/mesos/store/docker`,
    )
    .action(async (flags: NamingFlags & GlobalOptions & { fromMesos: string }) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, 'import images')
        const report = await loam.images.importMesos({
          workDir: flags.fromMesos,
          replace: flags.replace,
          signal,
          onEvent: progress.onEvent,
        })
        progress.summarize('imported')
        output.result(report, () => [
          ...report.images.map(({ name, digest }) => `image ${name} ${digest}`),
          ...report.failed.map(({ what, reason }) => `failed ${what}: ${reason}`),
          ...report.containers.map((id) => `container ${id} still belongs to the agent: destroy it there`),
          `imported ${report.images.length}, failed ${report.failed.length}`,
        ])
        if (report.failed.length > 0) host.exitStatus = 1
      })
    })
}
