import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

// The pages of the site, in the order of its sidebar. A file of the repository has its path; what is generated has `reference/`.

/** A group of the sidebar. */
export interface Section {
  readonly title: string
  readonly pages: readonly string[]
}

/** The first page, which is in no group. */
export const HOME = 'docs/index.md'

const ORDER: readonly Section[] = [
  {
    title: 'Start',
    pages: [
      'docs/installation.md',
      'docs/tutorials/first-root-filesystem.md',
      'docs/tutorials/inside-an-image.md',
      'docs/tutorials/your-own-image.md',
      'docs/tutorials/daemon.md',
    ],
  },
  {
    title: 'How to',
    pages: [
      'docs/how-to/ci.md',
      'docs/how-to/virtual-machines.md',
      'docs/how-to/scanner.md',
      'docs/how-to/air-gap.md',
      'docs/how-to/private-ca.md',
      'docs/how-to/kubernetes.md',
      'docs/how-to/containerd.md',
      'docs/how-to/docker.md',
      'docs/how-to/mesos.md',
      'docs/how-to/from-skopeo-umoci.md',
      'docs/how-to/from-podman.md',
    ],
  },
  {
    title: 'Subjects',
    pages: [
      'docs/registries.md',
      'docs/lists.md',
      'docs/inside-images.md',
      'docs/disks.md',
      'docs/terminal.md',
      'docs/rootless.md',
      'docs/lazy.md',
      'docs/signatures.md',
      'docs/operations.md',
      'docs/ui.md',
      'docs/containerd.md',
      'docs/csi.md',
      'docs/podman.md',
      'docs/disks.md',
      'docs/mesos.md',
      'docs/appc.md',
      'examples/README.md',
    ],
  },
  {
    title: 'Reference',
    pages: ['docs/configuration.md', 'docs/errors.md', 'docs/api.md', 'docs/glossary.md'],
  },
  {
    title: 'Background',
    pages: ['docs/comparison.md', 'docs/benchmarks.md', 'docs/security.md', 'docs/layers.md', 'SECURITY.md'],
  },
  {
    title: 'Internals',
    pages: [
      'ARCHITECTURE.md',
      'CONTRIBUTING.md',
      'docs/formats/store.md',
      'docs/formats/lazy-index.md',
      'docs/dependencies.md',
      'docs/adr/0001-artifacts-without-fsync.md',
      'docs/adr/0002-stacks-have-fixups.md',
      'docs/adr/0003-unlisted-directory-over-symlink.md',
      'docs/adr/0004-what-waits-for-the-disk.md',
      'docs/adr/0005-erofs-over-tars.md',
      'docs/adr/0006-converted-on-import.md',
      'docs/adr/0007-own-policy-format.md',
      'docs/adr/0008-kernel-writes-the-journal.md',
      'RELEASING.md',
      'CHANGELOG.md',
    ],
  },
]

const NAMED = new Set([HOME, 'docs/README.md', ...ORDER.flatMap(({ pages }) => pages)])
/** Documents without a place in the order: decisions and formats are internals, others subjects. */
const UNNAMED = globSync('docs/**/*.md', { cwd: fileURLToPath(new URL('../..', import.meta.url)) })
  .filter((path) => !NAMED.has(path) && !path.startsWith('docs/api/'))
  .toSorted()
const sectionOf = (path: string) => (/^docs\/(?:adr|formats)\//.test(path) ? 'Internals' : 'Subjects')

/** Pages of the repository by group. Those of the reference that are generated follow the group's own. */
export const SECTIONS: readonly Section[] = ORDER.map(({ title, pages }) => ({
  title,
  pages: [...pages, ...UNNAMED.filter((path) => sectionOf(path) === title)],
}))
