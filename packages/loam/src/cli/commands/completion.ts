import { Argument, type Command } from 'commander'
import { existsSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Loam } from '../../app/index.ts'
import { readConfiguration } from '../../config/index.ts'
import { type Candidate, type CompletionPlan, planCompletion } from '../completion/plan.ts'
import type { Kind } from '../completion/values.ts'
import { completionScript, SHELLS, type Shell } from '../completion/scripts.ts'
import { formatBytes } from '../format.ts'
import type { Host } from '../host.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions } from '../session.ts'

/** Options that say whose names are completed. */
const STORE_OPTIONS = ['root', 'state', 'config'] as const

/** Lines that let the shell complete a word itself. */
const BY_SHELL: Readonly<Partial<Record<Kind, readonly string[]>>> = {
  files: [':files'],
  directories: [':directories'],
  'mounted-files': [':files', ':nospace'],
}

/** Prefixes that users leave out of names. */
const USUAL = ['docker.io/library/', 'docker.io/']

export function addCompletion(program: Command, host: Host): void {
  addGlobalOptions(program.command('completion'))
    .description('print the script with which a shell completes commands, options, images and containers')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText(
      'after',
      `
  source <(loam completion bash)                      in ~/.bashrc
  loam completion zsh > ~/.zfunc/_loam                in a directory of $fpath
  loam completion fish > ~/.config/fish/completions/loam.fish`,
    )
    .action((shell: Shell) => {
      host.stdout.write(completionScript(shell))
    })
  // What the scripts ask.
  program
    .command('__complete [words...]', { hidden: true })
    .passThroughOptions()
    .action(async (words: readonly string[]) => {
      const plan = planCompletion(program, words)
      const paths = plan.kinds.includes('paths') ? listPaths(host.cwd, plan.typed) : []
      const found = [...plan.candidates, ...paths, ...(await namesOf(host, plan, words))]
      const lines = found.map(({ word, description }) => `${plan.prefix}${word}\t${description}`)
      for (const line of [...new Set(lines), ...plan.kinds.flatMap((kind) => BY_SHELL[kind] ?? [])]) {
        // A name with such characters cannot be typed, and would be another line.
        // oxlint-disable-next-line no-control-regex
        if (!/[\0-\x08\n-\x1f\x7f]/.test(line)) host.stdout.write(`${line}\n`)
      }
    })
}

/** Returns the files whose paths begin as typed; none if their directory cannot be read. */
function listPaths(cwd: string, typed: string): Candidate[] {
  const folder = typed.slice(0, typed.lastIndexOf('/') + 1)
  const name = typed.slice(folder.length)
  try {
    return readdirSync(resolve(cwd, folder), { withFileTypes: true })
      .filter((each) => each.name.startsWith(name) && (name !== '' || !each.name.startsWith('.')))
      .map((each) => ({ word: `${folder}${each.name}${each.isDirectory() ? '/' : ''}`, description: '' }))
  } catch {
    return []
  }
}

/** Returns the names in the store. A store that does not exist is not created, and errors are not told: there are just no names. */
async function namesOf(host: Host, plan: CompletionPlan, words: readonly string[]): Promise<Candidate[]> {
  const kinds = plan.kinds.filter((kind) => kind !== 'paths' && BY_SHELL[kind] === undefined)
  if (kinds.length === 0) return []
  const input = configurationInput(host, storeOptions(words))
  try {
    if (!existsSync(readConfiguration(input).values.root)) return []
    await using loam = await host.openLoam(input)
    const names = await Promise.all(kinds.map(async (kind) => listNames(loam, kind)))
    return names.flat().filter(({ word }) => word.startsWith(plan.typed) && isOffered(word, plan.typed))
  } catch {
    return []
  }
}

/** A digest is offered to who began one: it would be beside each name. */
function isOffered(word: string, typed: string): boolean {
  return typed !== '' || !word.startsWith('sha256:')
}

async function listNames(loam: Loam, kind: Kind): Promise<Candidate[]> {
  if (kind === 'containers' || kind === 'container-paths') {
    const end = kind === 'containers' ? '' : ':'
    const containers = await loam.containers.list()
    return containers.map(({ id, rootfses }) => ({
      word: `${id}${end}`,
      description: rootfses[0]?.reference ?? '',
    }))
  }
  if (kind === 'snapshots') {
    const snapshots = await Array.fromAsync(loam.snapshots.open().list())
    return snapshots.map(({ name, kind: state }) => ({ word: name, description: state }))
  }
  const images = await loam.images.list()
  return images.flatMap(({ names, digest, sizeBytes }) =>
    [...names, digest].flatMap((name) =>
      spellings(name).map((word) => ({ word, description: formatBytes(sizeBytes) })),
    ),
  )
}

/** Returns a name without the prefix that users leave out, and as it is. */
function spellings(name: string): string[] {
  const prefix = USUAL.find((each) => name.startsWith(each))
  return prefix === undefined ? [name] : [name.slice(prefix.length), name]
}

function storeOptions(words: readonly string[]): GlobalOptions {
  const given = STORE_OPTIONS.flatMap((name) => {
    const index = words.findLastIndex((word) => word === `--${name}` || word.startsWith(`--${name}=`))
    const word = words[index] ?? ''
    const value = word.includes('=') ? word.slice(word.indexOf('=') + 1) : words[index + 1]
    return index < 0 || value === undefined ? [] : [[name, value] as const]
  })
  return Object.fromEntries(given)
}
