// `npm run debian-package [-- DIRECTORY]`: builds a Debian package that needs no Node: the executable of scripts/single-file, units of systemd, man pages and
// completions. Needs dpkg-deb. Files have the time SOURCE_DATE_EPOCH, if it is set.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { completionScript } from '../packages/loam/src/cli/completion/scripts.ts'
import { IMAGE_SERVICE_SOCKET, SNAPSHOTTER_SOCKET } from '../packages/loam/src/internal.ts'
import { createUnits } from '../packages/loamd/src/systemd/units.ts'
import { manPages, packageEdition } from './man-pages.ts'
import { buildExecutable } from './single-file/build.ts'

const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
const UNITS = createUnits({
  command: ['/usr/bin/loamd'],
  root: '/var/lib/loam',
  state: '/run/loam',
  grpcSocket: SNAPSHOTTER_SOCKET,
  socket: '/run/loam/loamd.sock',
  socketGroup: undefined,
  imageSocket: `/run/loam/${IMAGE_SERVICE_SOCKET}`,
})
const UNIT_NAMES = UNITS.map(({ name }) => name).join(' ')

/** Builds the package and returns its path. */
export async function buildDebianPackage(output: string): Promise<string> {
  const { version } = packageEdition()
  const architecture = ARCHITECTURES[process.arch] ?? process.arch
  const root = mkdtempSync(join(tmpdir(), 'loam-debian-'))
  try {
    chmodSync(root, 0o755)
    const executable = join(root, 'usr/lib/loam/loam')
    await buildExecutable(executable)
    chmodSync(executable, 0o755)
    linkSync(executable, join(root, 'usr/lib/loam/loamd'))
    for (const [path, content] of Object.entries(contents())) write(root, path, content)
    for (const name of ['loam', 'loamd']) chmodSync(join(root, 'usr/bin', name), 0o755)
    copyFileSync(join(REPOSITORY, 'README.md'), join(root, 'usr/share/doc/loam/README.md'))
    const installedKb = Math.ceil(statSync(executable).size / 1024)
    write(root, 'DEBIAN/control', control(version, architecture, installedKb))
    for (const [name, script] of Object.entries(SCRIPTS)) {
      write(root, `DEBIAN/${name}`, `#!/bin/sh\nset -e\n${script}`)
      chmodSync(join(root, 'DEBIAN', name), 0o755)
    }
    mkdirSync(output, { recursive: true })
    const path = join(output, `loam_${version}_${architecture}.deb`)
    run('dpkg-deb', '--root-owner-group', '-Zxz', '--build', root, path)
    return path
  } finally {
    rmSync(root, { recursive: true })
  }
}

function contents(): Readonly<Record<string, string | Uint8Array>> {
  const pages = manPages(packageEdition()).map(({ file, text }) => [
    `usr/share/man/man${file.slice(-1)}/${file}.gz`,
    gzipSync(text, { level: 9 }),
  ])
  const units = UNITS.map(({ name, text }) => [`usr/lib/systemd/system/${name}`, text])
  return {
    ...(Object.fromEntries(pages) as Record<string, Uint8Array>),
    ...(Object.fromEntries(units) as Record<string, string>),
    'usr/bin/loam': startScript('loam'),
    'usr/bin/loamd': startScript('loamd'),
    'usr/share/bash-completion/completions/loam': completionScript('bash'),
    'usr/share/zsh/vendor-completions/_loam': completionScript('zsh'),
    'usr/share/fish/vendor_completions.d/loam.fish': completionScript('fish'),
    'usr/share/doc/loam/changelog.gz': gzipSync(readFileSync(join(REPOSITORY, 'CHANGELOG.md')), { level: 9 }),
    'usr/share/doc/loam/copyright': `Loam is licensed under the Apache License, Version 2.0: /usr/share/common-licenses/Apache-2.0.
The executable contains Node.js (MIT and others, \`/usr/lib/loam/loam\`), koffi (MIT) and the packages below.

${readFileSync(licences(), 'utf8')}
${readFileSync(join(REPOSITORY, `node_modules/node-linux-${process.arch}/LICENSE`), 'utf8')}`,
  }
}

/** The licences of what is bundled, as \`npm run build\` writes them. */
function licences(): string {
  return join(REPOSITORY, 'packages/loamd/dist/THIRD-PARTY-LICENSES.txt')
}

/** Hides the words from Node, as packages/loam/bin/loam.cjs says. */
function startScript(name: string): string {
  return `#!/bin/sh
eval "exec /usr/lib/loam/${name} @${name} /usr/bin/${name}$(_n=0; for _ do _n=$((_n + 1)); printf ' ".\${%d}"' $_n; done)"
`
}

function control(version: string, architecture: string, installedKb: number): string {
  return `Package: loam
Version: ${version}
Architecture: ${architecture}
Maintainer: The authors of Loam <loam@localhost>
Installed-Size: ${installedKb}
Depends: libc6 (>= 2.28), libstdc++6, libgcc-s1, libatomic1
Recommends: libisal2, runc, e2fsprogs
Suggests: containerd, uidmap, gpgv
Section: admin
Priority: optional
Description: root filesystems from container images
 Loam creates root filesystems from container images, without a container
 engine. Layers are never unpacked: all layers of an image are one mount, which
 its containers share. This package has the command loam, and the daemon loamd,
 a snapshotter for containerd with an API of its own. It contains the Node.js
 that both run on.
`
}

const SCRIPTS: Readonly<Record<string, string>> = {
  postinst: `[ "$1" = configure ] || exit 0
for unit in ${UNIT_NAMES}; do
  deb-systemd-helper unmask "$unit" >/dev/null || true
  # An administrator who has disabled a unit keeps it so.
  if deb-systemd-helper --quiet was-enabled "$unit"; then
    deb-systemd-helper enable "$unit" >/dev/null || true
  else
    deb-systemd-helper update-state "$unit" >/dev/null || true
  fi
done
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload >/dev/null || true
  if [ -z "$2" ]; then
    deb-systemd-invoke start ${UNIT_NAMES} >/dev/null || true
  elif systemctl --quiet is-active loamd.service; then
    # The new daemon takes the sockets over: no request fails.
    systemctl reload loamd.service || true
  fi
fi
`,
  prerm: `[ "$1" = remove ] || exit 0
if [ -d /run/systemd/system ]; then
  deb-systemd-invoke stop ${UNIT_NAMES} >/dev/null || true
fi
`,
  postrm: `if [ "$1" = remove ]; then
  [ ! -d /run/systemd/system ] || systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
  for unit in ${UNIT_NAMES}; do
    [ ! -x /usr/bin/deb-systemd-helper ] || deb-systemd-helper purge "$unit" >/dev/null || true
  done
  # Root filesystems of containers may be mounted from it.
  [ ! -d /var/lib/loam ] || echo "loam: the store stays in /var/lib/loam" >&2
fi
`,
}

function write(root: string, path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o755 })
  writeFileSync(join(root, path), content, { mode: 0o644 })
}

function run(file: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(file, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? stderr}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [output = join(REPOSITORY, 'dist')] = process.argv.slice(2)
  const path = await buildDebianPackage(output)
  console.log(`${path}: ${Math.round(statSync(path).size / 1e6)} MB`)
}
