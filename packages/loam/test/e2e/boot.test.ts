// An exported disk as the root of a virtual machine, with Debian's own kernel.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { testTool } from '../support/test-tools.ts'
import { must, World } from '../support/world.ts'

/** By scripts/fetch-test-tools.sh. */
const KERNEL = testTool('kernel')
/** Debian 12's kernel mounts blocks of 4 KiB alone. */
const NEWER_KERNEL = testTool('newer-kernel')
const BOOT_LIMIT_MS = 240_000

/** Loads the modules that the kernel needs for the disk, mounts it, and makes it the root. */
const INIT = `#!/busybox sh
/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /busybox insmod $module; done
/busybox mount -t erofs -o ro /dev/vda /root || /busybox poweroff -f
@BEFORE@
exec /busybox switch_root /root /bin/sh /etc/boot.sh
`

/** The same files as a drive each. */
const MOUNT_DRIVES = `/busybox mount -t erofs -o ro,device=/dev/vdc,device=/dev/vdd /dev/vdb /drives
echo "drives of $(/busybox cat /drives/etc/name)"`

const SCRIPT = `/bin/busybox mount -t proc proc /proc
echo "process $$ of $(cat /etc/name) on $(grep ' / ' /proc/mounts | cut -d' ' -f3 | tail -n 1)"
/bin/busybox poweroff -f
`

function createInitramfs(world: World, kernel: string, before: string): string {
  const folder = join(world.folder, 'initramfs')
  for (const name of ['dev', 'root', 'drives', 'modules']) mkdirSync(join(folder, name), { recursive: true })
  copyFileSync('/bin/busybox', join(folder, 'busybox'))
  for (const name of readdirSync(join(kernel, 'modules'))) {
    copyFileSync(join(kernel, 'modules', name), join(folder, 'modules', name))
  }
  writeFileSync(join(folder, 'init'), INIT.replace('@BEFORE@', before))
  chmodSync(join(folder, 'init'), 0o755)
  const path = join(world.folder, 'initramfs.gz')
  must('sh', '-c', `cd ${folder} && find . | cpio --quiet -o -H newc | gzip -1 > ${path}`)
  return path
}

function createImage(world: World): string {
  const layout = join(world.folder, 'layout')
  const applets = ['sh', 'cat', 'grep', 'cut', 'tail', 'mount'].map((name) => ({
    name: `bin/${name}`,
    type: 'symlink' as const,
    linkName: 'busybox',
  }))
  const base = buildTar([
    ...['bin/', 'proc/', 'dev/', 'etc/'].map((name) => ({ name })),
    { name: 'bin/busybox', mode: 0o755, data: readFileSync('/bin/busybox') },
    ...applets,
  ])
  const top = buildTar([
    { name: 'etc/name', data: 'the image' },
    { name: 'etc/boot.sh', data: SCRIPT },
  ])
  writeOciLayout(layout, { vm: buildImage({ tars: [base, top] }) })
  return `oci:${layout}:vm`
}

/** Returns what the machine writes to its serial console. */
function boot(world: World, kernel: string, drives: readonly string[], before = ''): string {
  // By emulation: KVM in a virtual machine is not reliable.
  const machine = spawnSync(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-m', '512', '-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio'],
      ...['-kernel', join(kernel, 'vmlinuz'), '-initrd', createInitramfs(world, kernel, before)],
      // A kernel that gets no time warns of that, in the middle of other lines.
      ...['-append', 'console=ttyS0 panic=-1 loglevel=1'],
      ...drives.flatMap((drive) => ['-drive', `${drive},if=virtio,readonly=on`]),
    ],
    { encoding: 'utf8', timeout: BOOT_LIMIT_MS, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  return machine.stdout + machine.stderr
}

describe('virtual machines', () => {
  test('an EROFS disk boots, and a process of the image writes to the serial console', {
    skip: !existsSync(KERNEL),
  }, () => {
    using world = new World()
    const disk = join(world.folder, 'disk.erofs')
    const { status, stderr } = world.loam('export', '--format', 'erofs', createImage(world), disk)
    assert.equal(status, 0, stderr)
    assert.match(boot(world, KERNEL, [`file=${disk},format=raw`]), /process 1 of the image on erofs/)
  })

  test('the files of the store boot without a copy: as one VMDK, and as a drive each', {
    skip: !existsSync(NEWER_KERNEL),
  }, () => {
    using world = new World()
    const { status, stdout, stderr } = world.loam('disks', createImage(world))
    assert.equal(status, 0, stderr)
    const vmdk = join(world.folder, 'disk.vmdk')
    writeFileSync(vmdk, stdout)
    const files = [...stdout.matchAll(/^RW \d+ FLAT "(.*)" 0$/gm)].map(([, path]) => path ?? '')
    assert.equal(files.length, 3)
    const drives = [`file=${vmdk},format=vmdk`, ...files.map((path) => `file=${path},format=raw`)]
    const said = boot(world, NEWER_KERNEL, drives, MOUNT_DRIVES)
    assert.match(said, /drives of the image/)
    assert.match(said, /process 1 of the image on erofs/)
  })
})
