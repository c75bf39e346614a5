// Archives as GNU tar and bsdtar read them: if both agree with each other, Loam has to agree with them.
import { spawnSync } from 'node:child_process'
import { type TarEntry, type TarEntryType, TarReader } from '../../src/tar/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import { Random } from '../faults/random.ts'
import { mutate } from './mutate.ts'
import { repairTar, TAR_SEEDS, TAR_WORDS } from './targets.ts'

const LETTERS: Readonly<Record<TarEntryType, string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  hardlink: 'h',
  character: 'c',
  block: 'b',
  fifo: 'p',
}

/** An entry as one line: letter, name and link, and the size of a file. */
function lineOf({ type, name, linkName, sizeBytes }: TarEntry): string {
  const joint = { symlink: ' -> ', hardlink: ' link to ' }[type as string] ?? ''
  const size = type === 'file' ? ` ${sizeBytes}` : ''
  return tidy(LETTERS[type], `${name.toString('latin1')}${joint}${linkName.toString('latin1')}`, size)
}

function tidy(letter: string, name: string, size: string): string {
  const trimmed = name.replace(/^(?:\.\/)+(?=.)/, '').replace(/(?<=.)\/+$/, '')
  return `${letter} ${trimmed}${size}`
}

function listByLoam(input: Buffer): string[] | undefined {
  const lines: string[] = []
  try {
    const reader = new TarReader((entry) => lines.push(lineOf(entry)))
    reader.write(input)
    reader.end()
    return lines
  } catch (error) {
    if (isLoamError(error)) return undefined
    throw error
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
}

/** Returns a string up to the first NUL, as C reads it. */
function unescape(text: string): string {
  return text.replace(
    /\\(?:([0-7]{3})|(.))/g,
    (_all, octal: string | undefined, letter: string | undefined) =>
      octal === undefined
        ? (ESCAPES[letter ?? ''] ?? letter ?? '')
        : String.fromCharCode(Number.parseInt(octal, 8)),
  )
}

function list(file: string, args: readonly string[], input: Buffer, line: RegExp): string[] | undefined {
  const env = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' }
  const { status, stdout } = spawnSync(file, args, { input, env, maxBuffer: 16 << 20, timeout: 10_000 })
  if (status !== 0) return undefined
  const lines: string[] = []
  for (const one of stdout.toString('latin1').split('\n').filter(Boolean)) {
    const { letter = '', size = '', name = '' } = line.exec(one)?.groups ?? {}
    if (letter === '') return undefined
    lines.push(
      tidy(
        letter === 'C' ? '-' : letter,
        unescape(name.replaceAll(/^"|"$|"(?= -> "| link to ")|(?<=-> |link to )"/g, '')),
        letter === '-' || letter === 'C' ? ` ${size}` : '',
      ),
    )
  }
  return lines
}

const GNU = /^(?<letter>[-dlhcbpC])\S{9} \S+ +(?<size>\S+) \S+ \S+ +(?<name>".*")$/s
const BSD =
  /^(?<letter>[-dlhcbp])\S{9}\S? +\d+ +\S+ +\S+ +(?<size>\d+(?:, *\d+)?) \w{3} +\d+ +\S+ (?<name>.*)$/s

export interface Comparison {
  readonly compared: number
  /** Archives on which GNU tar and bsdtar disagree, or which one of them refuses. */
  readonly disputed: number
  readonly findings: readonly { readonly input: Buffer; readonly error: string }[]
}

/** Compares listings of archives that Loam accepts, for a given time. */
export function compareListings(seconds: number, seed: number): Comparison {
  const random = new Random(seed)
  const findings: { input: Buffer; error: string }[] = []
  let [compared, disputed] = [0, 0]
  const corpus: Buffer[] = [...TAR_SEEDS]
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    const base = random.pick(corpus)
    const input = repairTar(mutate(base, random, { others: corpus, words: TAR_WORDS, maxBytes: 12_000 }))
    const own = listByLoam(input)
    if (own === undefined || own.length === 0) continue
    if (corpus.length < 500) corpus.push(Buffer.from(input))
    const gnu = list(
      'tar',
      ['-tv', '--numeric-owner', '--full-time', '--quoting-style=c', '-f', '-'],
      input,
      GNU,
    )
    const bsd = list('bsdtar', ['-tvnf', '-'], input, BSD)
    compared += 1
    if (gnu === undefined || bsd === undefined || gnu.join('\n') !== bsd.join('\n')) {
      disputed += 1
      continue
    }
    if (own.join('\n') === gnu.join('\n')) continue
    const [extra, missing] = [
      own.filter((line) => !gnu.includes(line)),
      gnu.filter((line) => !own.includes(line)),
    ]
    findings.push({
      input: Buffer.from(input),
      error: `Loam ${JSON.stringify(extra.slice(0, 3))}, they ${JSON.stringify(missing.slice(0, 3))}`,
    })
  }
  return { compared, disputed, findings }
}
