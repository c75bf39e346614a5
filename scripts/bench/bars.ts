// The short form of the benchmark: what the aims of Loam's speed are about, and nothing else.
import { performance } from 'node:perf_hooks'
import { median } from './measure.ts'
import { type BenchTool, run, type Run } from './tools.ts'

const NEWEST = 'containerd 2.1 erofs'
const WITH_DAEMON = 'loam with loamd'
const ALONE = 'loam'
/** The images for which the command without a daemon has an aim. */
const ALONE_IMAGES: readonly string[] = ['tiny', 'debian']
const STARTS = 15

/** Returns whether a tool takes part with an image. */
export function isForBars({ name }: BenchTool, image: string): boolean {
  return name === NEWEST || name === WITH_DAEMON || (name === ALONE && ALONE_IMAGES.includes(image))
}

/** Returns the rows of the table in docs/benchmarks.md. */
export function toTable(results: Readonly<Record<string, Readonly<Record<string, Run>>>>): string {
  const rows = Object.entries(results).flatMap(([image, byTool]) => {
    const peer = byTool[NEWEST]
    return Object.entries(byTool).map(([name, one]) => toRow(image, name, one, peer))
  })
  return [
    '| image | tool | pull to rootfs | times as fast | CPU | of its CPU | peak memory | second rootfs | destroy |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n')
}

function toRow(image: string, name: string, one: Run, peer: Run | undefined): string {
  const ratio = (digits: string | undefined) => digits ?? ''
  const cells = [
    image,
    name,
    `${one.wallSeconds.toFixed(2)} s`,
    ratio(peer && `${(peer.wallSeconds / one.wallSeconds).toFixed(2)}×`),
    `${one.cpuSeconds.toFixed(2)} s`,
    ratio(peer && `${(one.cpuSeconds / peer.cpuSeconds).toFixed(2)}×`),
    `${(one.peakBytes / 2 ** 20).toFixed(0)} MiB`,
    `${(one.secondSeconds * 1000).toFixed(0)} ms`,
    `${(one.destroySeconds * 1000).toFixed(0)} ms`,
  ]
  return `| ${cells.join(' | ')} |`
}

/** Returns how long Node, and the command with nothing to do, take to start. They take turns. */
export function benchStart(loam: string): string {
  const commands = { 'node -e 0': `${process.execPath} -e 0`, 'loam --version': `${loam} --version` }
  const times = Object.entries(commands).map(([name, command]) => ({ name, command, all: [] as number[] }))
  for (let round = 0; round < STARTS; round += 1) {
    for (const { command, all } of times) {
      const startMs = performance.now()
      run(command)
      all.push(performance.now() - startMs)
    }
  }
  return times
    .map(({ name, all }) => `${name}: ${median(all).toFixed(0)} ms (median of ${STARTS})`)
    .join('\n')
}
