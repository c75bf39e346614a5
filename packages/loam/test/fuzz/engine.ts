// A small coverage-guided fuzzer: inputs that reach new code are kept, and changed further.
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isLoamError } from '../../src/index.ts'
import { Random } from '../faults/random.ts'
import { Coverage } from './coverage.ts'
import { mutate, mutateJson } from './mutate.ts'
import type { Watchdog } from './watchdog.ts'

/** Inputs of earlier runs, a folder for each target: those that reach the most code, and those that found a defect. */
export const CORPUS = fileURLToPath(new URL('corpus/', import.meta.url))
const MEMORY_LIMIT_BYTES = 256 << 20

/** Code that reads bytes from outside. */
export interface Target {
  readonly name: string
  /** Initial inputs. */
  readonly seeds: () => readonly Buffer[]
  /** Tokens of its format, as latin1. */
  readonly words: readonly string[]
  readonly maxBytes: number
  /** Corrects fields that would only cause inputs to be refused: checksums. */
  readonly repair?: (input: Buffer) => Buffer
  /** Whether inputs are JSON, and mostly stay JSON. */
  readonly isJson?: boolean
  /** Reads an input. A LoamError is an answer; every other error is a finding. */
  readonly run: (input: Buffer, random: Random) => void | Promise<void>
}

export interface FuzzResult {
  readonly executions: number
  readonly corpus: number
  readonly blocks: number
  readonly findings: readonly { readonly file: string; readonly error: string }[]
}

/** Runs a target on one input. Returns the finding, if any. */
export async function tryInput(target: Target, input: Buffer, random: Random): Promise<string | undefined> {
  try {
    await target.run(input, random)
    return undefined
  } catch (error) {
    if (isLoamError(error) && error.code !== 'SYSTEM' && error.code !== 'INTERNAL') return undefined
    return error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
}

/** Returns the kept inputs of a target. */
export function keptInputs({ name }: Target): Buffer[] {
  const folder = join(CORPUS, name)
  try {
    return readdirSync(folder)
      .toSorted()
      .map((file) => readFileSync(join(folder, file)))
  } catch {
    return []
  }
}

/** Fuzzes one target for a given time. With `keep`, inputs that reach new code join the corpus. */
export async function fuzz(
  target: Target,
  options: { seconds: number; seed: number; keep: boolean; findings: string; watchdog: Watchdog },
): Promise<FuzzResult> {
  const random = new Random(options.seed)
  using coverage = new Coverage()
  const corpus: Buffer[] = []
  const findings: { file: string; error: string }[] = []
  const known = new Set<string>()
  const execute = async (input: Buffer): Promise<boolean> => {
    options.watchdog.begin(input)
    const wrong = await tryInput(target, input, random)
    // One finding for each place in the code.
    const place = wrong?.split('\n').slice(0, 3).join('\n')
    if (wrong !== undefined && place !== undefined && !known.has(place)) {
      known.add(place)
      findings.push({ file: save(options.findings, target, input), error: wrong })
    }
    return coverage.isNew(coverage.take())
  }
  for (const input of [...keptInputs(target), ...target.seeds()]) {
    if (await execute(input)) corpus.push(input)
  }
  const end = performance.now() + options.seconds * 1000
  const memoryBefore = process.memoryUsage.rss()
  let executions = corpus.length
  for (; performance.now() < end; executions += 1) {
    // The latest ones reach the most code.
    const index =
      random.next() < 0.5
        ? random.below(corpus.length)
        : corpus.length - 1 - random.below(Math.min(corpus.length, 8))
    const base = corpus[index] ?? Buffer.alloc(0)
    const { words, maxBytes, repair } = target
    const mutated =
      (target.isJson === true && random.next() < 0.7 ? mutateJson(base, random) : undefined) ??
      mutate(base, random, { others: corpus, words, maxBytes })
    const input = repair !== undefined && random.next() < 0.9 ? repair(mutated) : mutated
    if (await execute(input)) corpus.push(Buffer.from(input))
  }
  globalThis.gc?.()
  const grown = process.memoryUsage.rss() - memoryBefore
  if (grown > MEMORY_LIMIT_BYTES) findings.push({ file: '', error: `it took ${grown >> 20} MiB more memory` })
  if (options.keep) await distil(target, corpus)
  return { executions, corpus: corpus.length, blocks: coverage.size, findings }
}

const MAX_KEPT = 25

/** Writes the smallest inputs that together reach as much code as all. */
async function distil(target: Target, corpus: readonly Buffer[]): Promise<void> {
  using coverage = new Coverage()
  const random = new Random(0)
  const folder = join(CORPUS, target.name)
  rmSync(folder, { recursive: true, force: true })
  let kept = 0
  for (const input of corpus.toSorted((a, b) => a.length - b.length)) {
    await tryInput(target, input, random)
    if (!coverage.isNew(coverage.take()) || kept === MAX_KEPT) continue
    save(folder, target, input)
    kept += 1
  }
}

function save(folder: string, { name }: Target, input: Buffer): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${name}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`)
  writeFileSync(file, input)
  return file
}
