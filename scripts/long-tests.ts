// Tests that take longer than most others: `npm test` and `npm run test:system` leave them to `npm run verify`.

/** The longest of them: a tier that begins one of these at its end waits for it alone. */
const LONGEST = [
  'images',
  'docker',
  'containerd',
  'grpc',
  'user-ids',
  'command',
  'single-file',
  'clients',
  'site',
]

const LONG: Readonly<Record<string, readonly string[]>> = {
  'packages/loam/test/e2e': [
    'appc',
    'bad-input',
    'boot',
    'cancel',
    'containerd-cache',
    'docker-sources',
    'documents',
    'examples',
    'export',
    'fsck',
    'full-disk',
    'lazy-blobs',
    'main-thread',
    'mesos',
    'names',
    'odd-files',
    'outputs',
    'podman',
    'policy',
    'programs',
    'provisioner',
    'prune',
    'publish-index',
    'push',
    'random-images',
    'recovery',
    'resume',
    'rootless',
    'trees',
    'tutorials',
    'user-ids',
    'words',
  ],
  'packages/loam/test/root': ['hostile-trees', 'lazy-faults', 'lazy-pressure', 'size-limits'],
  'packages/loamd/test/e2e': [
    'adopt',
    'api',
    'clients',
    'command',
    'containerd',
    'credentials',
    'csi',
    'differ',
    'docker',
    'events-command',
    'front-doors',
    'full-disk-api',
    'full-disk',
    'grpc',
    'images',
    'metrics',
    'other-users',
    'page-lazy',
    'page',
    'run-door',
    'service',
    'single-file',
    'site',
    'size-limits',
    'snapshot-command',
  ],
  'packages/loam/test/fuzz': ['corpus'],
  'packages/loam/test/simulation': ['simulation'],
  'packages/loamd/src/csi': ['manifests'],
  'packages/loamd/src/http': ['events'],
  scripts: ['leftovers', 'man-pages', 'site'],
}

/** Paths of the test files that take long, from the root of the repository. */
export const LONG_TESTS: readonly string[] = Object.entries(LONG).flatMap(([directory, names]) =>
  names.map((name) => `${directory}/${name}.test.ts`),
)

/** Returns files in the order in which they are to begin: the longest ones first, and the short ones last. */
export function longestFirst<T>(files: readonly T[], pathOf: (file: T) => string): T[] {
  const rank = (path: string) => {
    const name = /([^/]+)\.test\.ts$/.exec(path)?.[1] ?? ''
    if (!LONG_TESTS.includes(path)) return 2
    return LONGEST.includes(name) ? 0 : 1
  }
  return files.toSorted((one, other) => rank(pathOf(one)) - rank(pathOf(other)))
}
