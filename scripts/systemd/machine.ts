// npm run systemd [-- --package FILE.deb]: boots a machine with Debian's kernel and a real systemd by qemu, and tries the daemon in it as a service (inside.ts), or the Debian package
// (inside-package.sh). Takes minutes,
// since qemu emulates the processor where the machine has no KVM. Nothing of this machine's /run or /tmp is shared with it.
import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  cpSync,
  mkdirSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildImage, buildTar, writeOciLayout } from '../../packages/loam/src/testing/index.ts'
import { InstalledPrograms } from '../installed-programs.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const ROOT_TAR = join(REPOSITORY, '.cache/test-tools/systemd-root.tar')
const LIMIT_MS = 20 * 60_000
const PACKAGES = ['systemd', 'systemd-sysv', 'dbus', 'linux-image-amd64', 'libstdc++6', 'libatomic1', 'kmod']
/** What only developers use. */
const LEFT_OUT = /^(?:\.cache|\.bin|typescript|@types|@rolldown|rolldown|playwright.*|axe-core)$/

const CHECK_UNIT = `[Unit]
Description=What is to be tried
After=multi-user.target

[Service]
Type=oneshot
ExecStart=@COMMAND@
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=default.target
`

function must(file: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${stderr}`)
}

/** Debian with systemd, made once for all runs of a checkout. */
function makeRootTar(): void {
  if (existsSync(ROOT_TAR)) return
  const own = `${ROOT_TAR}.${process.pid}.tar`
  must('mmdebstrap', '--quiet', '--variant=minbase', `--include=${PACKAGES.join()}`, 'bookworm', own)
  renameSync(own, ROOT_TAR)
}

/** Adds an image, and a unit that runs what is to be done. */
function addCheck(root: string, file: string, command: string): void {
  const check = join(root, 'opt/check')
  mkdirSync(check, { recursive: true })
  cpSync(join(import.meta.dirname, file), join(check, file))
  const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file' }])] })
  writeOciLayout(join(check, 'layout'), { x: image })
  writeFileSync(join(root, 'etc/systemd/system/check.service'), CHECK_UNIT.replace('@COMMAND@', command))
  const wanted = join(root, 'etc/systemd/system/default.target.wants')
  mkdirSync(wanted, { recursive: true })
  symlinkSync('../check.service', join(wanted, 'check.service'))
}

/** Installs the Debian package by apt, as users do, without Node. */
function fillRootWithPackage(root: string, file: string): void {
  addCheck(root, 'inside-package.sh', '/bin/sh /opt/check/inside-package.sh')
  cpSync(file, join(root, 'opt/check/loam.deb'))
  // For its dependencies.
  cpSync('/etc/resolv.conf', join(root, 'etc/resolv.conf'), { dereference: true })
  must('chroot', root, 'apt-get', 'update')
  must('chroot', root, 'apt-get', 'install', '--yes', '--no-install-recommends', '/opt/check/loam.deb')
}

/** Adds Node, and the packages as users install them. */
function fillRoot(root: string): void {
  const modules = join(root, 'opt/loam/node_modules')
  mkdirSync(modules, { recursive: true })
  for (const name of readdirSync(join(REPOSITORY, 'node_modules'))) {
    if (!LEFT_OUT.test(name)) must('cp', '-a', join(REPOSITORY, 'node_modules', name), modules)
  }
  for (const name of ['loamfs', 'loamd']) rmSync(join(modules, name), { recursive: true, force: true })
  using programs = new InstalledPrograms()
  must('cp', '-a', ...['loamfs', 'loamd'].map((name) => join(programs.folder, 'node_modules', name)), modules)
  cpSync(process.execPath, join(root, 'usr/local/bin/node'))
  addCheck(root, 'inside.ts', '/usr/local/bin/node /opt/check/inside.ts /opt/loam/node_modules')
  writeFileSync(join(root, 'opt/check/package.json'), '{ "type": "module" }')
}

/** Boots, shows the serial console, and returns what it said. */
async function boot(folder: string, disk: string, bootFolder: string): Promise<string> {
  const find = (start: string) =>
    join(bootFolder, readdirSync(bootFolder).find((name) => name.startsWith(start)) ?? start)
  const accelerated = existsSync('/dev/kvm') ? ['-enable-kvm', '-cpu', 'host'] : ['-cpu', 'max']
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...accelerated,
      ...['-smp', '2', '-m', '2048', '-nographic', '-no-reboot', '-net', 'none'],
      ...['-kernel', find('vmlinuz'), '-initrd', find('initrd')],
      ...['-append', 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=false'],
      ...['-drive', `file=${disk},format=raw,if=virtio`],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], cwd: folder, timeout: LIMIT_MS, killSignal: 'SIGKILL' },
  )
  let said = ''
  for await (const chunk of child.stdout) {
    said += String(chunk)
    process.stdout.write(chunk as Buffer)
  }
  return said
}

makeRootTar()
const folder = mkdtempSync('/var/tmp/loam-systemd-')
try {
  const root = join(folder, 'root')
  mkdirSync(root)
  must('tar', '-xf', ROOT_TAR, '-C', root)
  const [option, file] = process.argv.slice(2)
  if (option === '--package' && file !== undefined) fillRootWithPackage(root, file)
  else fillRoot(root)
  const disk = join(folder, 'disk.img')
  must('truncate', '-s', '4G', disk)
  must('mke2fs', '-q', '-t', 'ext4', '-d', root, disk)
  const said = await boot(folder, disk, join(root, 'boot'))
  if (!said.includes('all is right')) process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
