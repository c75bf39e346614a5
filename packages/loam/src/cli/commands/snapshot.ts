import type { Command } from 'commander'
import { imageIn } from '../../images/index.ts'
import type { SnapshotInfo } from '../../snapshotter/index.ts'
import { actOnEach, throwAll } from '../for-each.ts'
import { formatAge, formatBytes, formatTable } from '../format.ts'
import {
  addFetchOptions,
  addPullOptions,
  type FetchFlags,
  type NamingFlags,
  type PullFlags,
  repeated,
  replaceOption,
  toFetchOptions,
  toImageOptions,
  baseOption,
} from '../image-options.ts'
import { modeOption } from '../output-mode.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import { sourceDateMs } from '../source-date.ts'
import type { Host } from '../host.ts'

/** Commands on containerd's snapshots in this store. */
export function addSnapshot(program: Command, host: Host): void {
  const snapshot = program
    .command('snapshot')
    .description("inspect containerd's snapshots in this store and commit them to images")
  addList(snapshot, host)
  addTree(snapshot, host)
  addInspect(snapshot, host)
  addUsage(snapshot, host)
  addDiff(snapshot, host)
  addCommit(snapshot, host)
  addAdopt(snapshot, host)
  addFetch(snapshot, host)
  addImport(snapshot, host)
}

function addList(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('list'))
    .alias('ls')
    .description('list snapshots')
    .addOption(
      repeated(
        '--filter <filter>',
        'filter in the syntax of containerd, for example kind==active,parent==x; repeatable',
      ),
    )
    .action(async (flags: GlobalOptions & { filter?: readonly string[] }) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const found = await Array.fromAsync(loam.snapshots.open().list(flags.filter))
        output.result(found, () =>
          formatTable(
            ['SNAPSHOT', 'PARENT', 'KIND', 'LAYER', 'IMAGE', 'CREATED'],
            found.map((info) => [
              info.name,
              info.parent,
              info.kind,
              layerOf(info),
              imageIn(info.labels) ?? '',
              formatAge(info.createdUs / 1000),
            ]),
          ),
        )
      })
    })
}

/** Whose a layer is; empty for what is not one. */
function layerOf({ kind, diffId }: SnapshotInfo): string {
  return kind !== 'committed' ? '' : diffId === undefined ? 'unpacked' : 'loam'
}

function addTree(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('tree'))
    .description('show snapshots as a tree of parents and children')
    .action(async (flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const found = await Array.fromAsync(loam.snapshots.open().list())
        output.result(found, () => drawTree(found))
      })
    })
}

function drawTree(snapshots: readonly SnapshotInfo[]): string[] {
  const children = new Map<string, SnapshotInfo[]>()
  for (const snapshot of snapshots) {
    const siblings = children.get(snapshot.parent)
    if (siblings === undefined) children.set(snapshot.parent, [snapshot])
    else siblings.push(snapshot)
  }
  const lines: string[] = []
  // Without recursion: chains may be long.
  const pending = (children.get('') ?? []).map((snapshot) => ({ snapshot, depth: 0 })).toReversed()
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { snapshot, depth } = next
    lines.push(
      `${'  '.repeat(depth)}${snapshot.name}${snapshot.kind === 'committed' ? '' : ` (${snapshot.kind})`}`,
    )
    for (const child of (children.get(snapshot.name) ?? []).toReversed())
      pending.push({ snapshot: child, depth: depth + 1 })
  }
  return lines
}

function addInspect(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('inspect <key>'))
    .description('show details of a snapshot, including its mounts')
    .action(async (key: string, flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output }) => {
        const snapshotter = loam.snapshots.open()
        const info = await snapshotter.stat(key)
        const mounts = info.kind === 'committed' ? [] : await snapshotter.mounts(key)
        const found = { ...info, usage: await snapshotter.usage(key), mounts }
        output.document(found)
      })
    })
}

function addUsage(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('usage [key...]'))
    .description('report the disk usage of each snapshot, excluding its parents')
    .action(async (keys: readonly string[], flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const snapshotter = loam.snapshots.open()
        const names =
          keys.length > 0 ? keys : (await Array.fromAsync(snapshotter.list())).map(({ name }) => name)
        const { results, failures } = await actOnEach(names, signal, async (name) => ({
          name,
          ...(await snapshotter.usage(name)),
        }))
        if (results.length > 0 || failures.length === 0)
          output.result(results, () =>
            formatTable(
              ['SNAPSHOT', 'SIZE', 'INODES'],
              results.map(({ name, sizeBytes, inodes }) => [name, formatBytes(sizeBytes), String(inodes)]),
            ),
          )
        throwAll(failures)
      })
    })
}

function addDiff(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('diff <key> <output>'))
    .description(
      'write the changes of a snapshot relative to its parent as an OCI layer tar; - for standard output',
    )
    .addOption(modeOption())
    .action(async (key: string, output: string, flags: GlobalOptions & { readonly mode?: number }) => {
      await withSession(host, flags, async ({ loam, output: terminal, signal }) => {
        const { onEvent } = new PullProgress(terminal)
        await loam.snapshots.diff(key, output, { mode: flags.mode, signal, onEvent })
      })
    })
}

function addCommit(parent: Command, host: Host): void {
  addPullOptions(addGlobalOptions(parent.command('commit <key> <name>')))
    .description('commit a snapshot or a container to an image and print its digest')
    .addOption(baseOption())
    .option('--push', 'also push the image to the registry of its name')
    .addOption(replaceOption())
    .addHelpText(
      'after',
      `
  loam snapshot commit default/7/web registry.lan/web:2 --base registry.lan/web:1 --push
  loam snapshot commit web web:2 && loam export --format oci web:2 ./layout`,
    )
    .action(
      async (
        key: string,
        name: string,
        flags: PullFlags & NamingFlags & GlobalOptions & { base?: string; push?: boolean },
      ) => {
        await withSession(host, flags, async ({ loam, output, signal }) => {
          const progress = new PullProgress(output, `commit ${key}`)
          const options = { ...toImageOptions(flags), signal, onEvent: progress.onEvent }
          const isContainer =
            !(await loam.snapshots.has(key)) && (await loam.containers.find(key)) !== undefined
          const committer = isContainer ? loam.images : loam.snapshots
          const committed = await committer.commit(key, name, {
            ...options,
            base: flags.base,
            replace: flags.replace,
            createdAtMs: sourceDateMs(host),
          })
          const pushed =
            flags.push === true ? await loam.push(name, { ...options, onPush: progress.onEvent }) : undefined
          const { notes } = progress
          output.result({ ...committed, pushed, notes }, () => pushed?.digest ?? committed.digest)
        })
      },
    )
}

function addAdopt(parent: Command, host: Host): void {
  addPullOptions(addGlobalOptions(parent.command('adopt <image>')))
    .description(
      'turn the snapshots that containerd has unpacked an image to into layers, and print their names',
    )
    .addHelpText(
      'after',
      `
  loam snapshot adopt registry.lan/web:1
  loam snapshot adopt oci-archive:web.tar      # the file that \`ctr images import\` has read`,
    )
    .action(async (image: string, flags: PullFlags & GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output)
        const options = { ...toImageOptions(flags), signal, onEvent: progress.onEvent }
        const adoption = await loam.snapshots.adopt(image, options)
        output.result({ ...adoption, notes: progress.notes }, () => [...adoption.snapshots])
      })
    })
}

function addFetch(parent: Command, host: Host): void {
  addFetchOptions(addGlobalOptions(parent.command('fetch <image>')))
    .description(
      'bring the missing blobs of an image of containerd into its content store, for ctr export, push and docker save',
    )
    .option('--namespace <name>', 'namespace of containerd; without it, all that have the image')
    .addHelpText(
      'after',
      `
  loam snapshot fetch debian:12
  loam snapshot fetch --namespace moby debian:12 && docker save --output debian.tar debian:12`,
    )
    .action(async (image: string, flags: FetchFlags & GlobalOptions & { readonly namespace?: string }) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const { onEvent } = new PullProgress(output)
        const options = { ...toFetchOptions(flags), namespace: flags.namespace, signal, onEvent }
        const images = await loam.snapshots.fetchContent(image, options)
        output.result(images, () =>
          formatTable(
            ['NAMESPACE', 'BLOB', 'SIZE', 'FROM'],
            images.flatMap(({ namespace, blobs }) =>
              blobs.map(({ digest, sizeBytes, from }) => [namespace, digest, formatBytes(sizeBytes), from]),
            ),
          ),
        )
      })
    })
}

function addImport(parent: Command, host: Host): void {
  addGlobalOptions(parent.command('import <dir>'))
    .description(
      "bring in the snapshots of containerd's overlay snapshotter of early 2017 (active, committed, index)",
    )
    .action(async (dir: string, flags: GlobalOptions) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const report = await loam.snapshots.import(dir, { signal })
        output.result(report, () => [
          ...report.snapshots.map(({ name, kind }) => `${kind} ${name}`),
          ...report.notes.map((note) => `note ${note}`),
          ...report.failed.map(({ what, reason }) => `failed ${what}: ${reason}`),
        ])
        if (report.failed.length > 0) host.exitStatus = 1
      })
    })
}
