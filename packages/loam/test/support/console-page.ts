// Documents whose commands are run: blocks of `console`, in which a line that begins with `$ ` is a command, one that begins with `> `
// continues it, and the others are its output. `…` in an output is any text; a line of it alone is any number of lines.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** A command of a document, with its output as the document shows it. */
export interface ConsoleStep {
  readonly line: number
  readonly command: string
  readonly output: readonly string[]
}

/** How the commands of a document are run. */
export interface ConsoleSurroundings {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  /** Words of the document that are others here: addresses and paths. */
  readonly replaced: Readonly<Record<string, string>>
}

const BLOCK = /^```console\n([\s\S]*?)\n```$/gm
/** Divides the outputs of commands. */
const MARK = '\u{1E}'
const LIMIT_MS = 300_000

/** Returns the commands of the blocks of a document. */
export function parseConsole(text: string): ConsoleStep[] {
  const steps: { line: number; command: string; output: string[] }[] = []
  for (const block of text.matchAll(BLOCK)) {
    const first = text.slice(0, block.index).split('\n').length + 1
    for (const [index, line] of (block[1] ?? '').split('\n').entries()) {
      const last = steps.at(-1)
      if (line.startsWith('$ ')) steps.push({ line: first + index, command: line.slice(2), output: [] })
      else if (last === undefined) throw new Error(`line ${first + index}: output without a command`)
      else if (line.startsWith('> ') && last.output.length === 0) last.command += `\n${line.slice(2)}`
      else last.output.push(line)
    }
  }
  return steps
}

/** Returns whether an output is as a document shows it. */
export function fitsOutput(shown: readonly string[], output: string): boolean {
  const escape = (part: string) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
  const lines = shown.map((line) =>
    line === '…' ? String.raw`(?:.*\n)*` : `${line.split('…').map(escape).join('.*')} *\\n`,
  )
  return new RegExp(`^${lines.join('')}$`).test(
    output === '' || output.endsWith('\n') ? output : `${output}\n`,
  )
}

/** Runs the commands of a document in one shell. Returns a line for each whose output is another one. @throws if the shell ends before the last */
export function runConsole(path: string, { cwd, env, replaced }: ConsoleSurroundings): string[] {
  const steps = parseConsole(readFileSync(path, 'utf8'))
  const here = (text: string) =>
    Object.entries(replaced).reduce((whole, [from, to]) => whole.replaceAll(from, to), text)
  const script = steps.map(({ command }) => `${here(command)}\nlast=$?; printf '${MARK}'; (exit $last)\n`)
  const { stdout, error } = spawnSync('sh', ['-c', `exec 2>&1\n${script.join('')}`], {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: LIMIT_MS,
  })
  if (error !== undefined) throw error
  const outputs = stdout.split(MARK)
  if (outputs.length !== steps.length + 1) throw new Error(`the shell has ended: ${stdout}`)
  return steps.flatMap(({ line, command, output }, index) =>
    fitsOutput(output.map(here), outputs[index] ?? '')
      ? []
      : [`line ${line}: ${command}\nexpected:\n${output.join('\n')}\ngot:\n${outputs[index] ?? ''}`],
  )
}
