import { execFileSync } from 'node:child_process'
import type { SnapshotMount } from '../snapshotter/index.ts'

/** Mounts the mounts of a snapshotter at a folder, by mount(8), until it is disposed. */
export function mountSnapshot(mounts: readonly SnapshotMount[], target: string): Disposable {
  for (const { type, source, options } of mounts) {
    const isBind = type === 'bind'
    const { cwd, args } = isBind ? { cwd: '/', args: ['-o', options.join(',')] } : shorten(options)
    execFileSync('mount', [...(isBind ? [] : ['-t', type]), ...args, source, target], { cwd })
    // A bind takes its other options in a second step.
    if (isBind && options.includes('ro')) execFileSync('mount', ['-o', 'remount,bind,ro', target])
  }
  return {
    [Symbol.dispose]: () => {
      for (const _mount of mounts) execFileSync('umount', ['-l', target])
    },
  }
}

/** Options are limited to a page: as in containerd, lower folders are named relative to their common parent. */
function shorten(options: readonly string[]): { cwd: string; args: string[] } {
  const lowers =
    options
      .find((option) => option.startsWith('lowerdir='))
      ?.slice('lowerdir='.length)
      .split(':') ?? []
  const [first = '/'] = lowers
  let cwd = first.slice(0, first.lastIndexOf('/') + 1)
  while (cwd !== '/' && !lowers.every((lower) => lower.startsWith(cwd)))
    cwd = cwd.slice(0, cwd.lastIndexOf('/', cwd.length - 2) + 1)
  const isLong = options.join(',').length > 4000
  const named = isLong ? lowers.map((lower) => lower.slice(cwd.length)) : lowers
  const others = options.filter((option) => !option.startsWith('lowerdir='))
  return { cwd: isLong ? cwd : '/', args: ['-o', [...others, `lowerdir=${named.join(':')}`].join(',')] }
}
