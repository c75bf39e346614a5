/*
 * Path whitelists: a rendered image contains only the listed paths of its dependencies. Each image's own files were filtered
 * when it was read. The files of dependencies that its list excludes become one more layer of whiteouts on top.
 * Source: appc spec/aci.md "pathWhitelist", and its acirenderer.
 */
import { formatTarHeader, tarEnd, TarReader } from '../../tar/index.ts'
import { splitPath } from '../../tree/index.ts'
import { keyOf, createWhitelist } from './aci-file.ts'

/** An image in the graph of dependencies, with its layer. */
export interface WhitelistNode {
  readonly pathWhitelist: readonly string[]
  readonly open: () => AsyncIterable<Buffer>
  /** In the order of the manifest. */
  readonly dependencies: readonly WhitelistNode[]
}

/** Returns the tar of whiteouts to put on top of the layers of all images; undefined if none is needed. Memory is linear in paths. */
export async function createWhiteouts(image: WhitelistNode): Promise<Buffer | undefined> {
  const own = new Map<WhitelistNode, Set<string>>()
  await readAll(image, own)
  const rendered = render(image, own, new Map())
  const hidden = [...new Set([...own.values()].flatMap((paths) => [...paths]))].filter(
    (path) => !rendered.has(path),
  )
  const gone = new Set(hidden)
  const tops = hidden.filter((path) => !gone.has(parentOf(path))).toSorted()
  if (tops.length === 0) return undefined
  const headers = tops.map((path) => {
    const slash = path.lastIndexOf('/')
    const name = `./${path.slice(0, slash + 1)}.wh.${path.slice(slash + 1)}`
    return formatTarHeader({ type: 'file', name: Buffer.from(name, 'latin1'), mode: 0o600 })
  })
  return Buffer.concat([...headers, tarEnd()])
}

async function readAll(node: WhitelistNode, own: Map<WhitelistNode, Set<string>>): Promise<void> {
  if (own.has(node)) return
  own.set(node, await readPaths(node.open()))
  for (const dependency of node.dependencies) await readAll(dependency, own)
}

type Paths = ReadonlyMap<WhitelistNode, ReadonlySet<string>>

function render(node: WhitelistNode, own: Paths, done: Map<WhitelistNode, Set<string>>): Set<string> {
  const known = done.get(node)
  if (known !== undefined) return known
  const below = new Set(node.dependencies.flatMap((dependency) => [...render(dependency, own, done)]))
  const whitelist = createWhitelist(node.pathWhitelist)
  const kept = whitelist === undefined ? below : withParents([...below].filter((path) => whitelist.has(path)))
  for (const path of own.get(node) ?? []) kept.add(path)
  done.set(node, kept)
  return kept
}

async function readPaths(tar: AsyncIterable<Buffer>): Promise<Set<string>> {
  const paths: string[] = []
  const reader = new TarReader((entry) => {
    const key = keyOf(splitPath(entry.name) ?? [])
    if (key !== '') paths.push(key)
  })
  for await (const chunk of tar) reader.write(chunk)
  reader.end()
  return withParents(paths)
}

function withParents(paths: readonly string[]): Set<string> {
  const all = new Set<string>()
  for (const path of paths) {
    for (let current = path; current !== '' && !all.has(current); current = parentOf(current))
      all.add(current)
  }
  return all
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0))
}
