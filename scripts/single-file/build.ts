// `npm run single-file [-- OUTPUT]`: builds Loam as one file that needs no Node: a shell script (start.sh) with an executable behind it. OUTPUT.executable
// is the executable alone, for packages that bring a script of their own.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const PROGRAM_FILES = ['loam.cjs', 'namespace.cjs', 'write-error.cjs', 'broken-text.cjs']
const MODULES = join(REPOSITORY, 'node_modules')

/** Builds the executable for this machine's processor, from the Node that runs this. */
export async function buildExecutable(output: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-single-file-'))
  try {
    run(
      join(REPOSITORY, 'tools/node_modules/.bin/rolldown'),
      import.meta.dirname,
      '--config',
      '--dir',
      folder,
    )
    const page = Object.entries(await loadPage())
    mkdirSync(join(folder, 'page'))
    for (const [name, bytes] of page) writeFileSync(join(folder, 'page', name), bytes)
    const node = join(folder, 'node')
    // The symbols of Node's functions are a fifth of it.
    run('strip', folder, '-o', node, process.execPath)
    for (const name of PROGRAM_FILES) {
      const text = readFileSync(join(REPOSITORY, 'packages/loam/bin', name), 'utf8')
      writeFileSync(join(folder, name), text.replace(/^#!.*/, ''))
    }
    copyFileSync(join(import.meta.dirname, 'entry.cjs'), join(folder, 'entry.cjs'))
    const files = [
      ...PROGRAM_FILES,
      ...readdirSync(folder).filter((name) => name.endsWith('.js')),
      ...page.map(([name]) => `page/${name}`),
    ]
    const assets = {
      ...Object.fromEntries(files.map((name) => [name, join(folder, name)])),
      'package.json': join(REPOSITORY, 'packages/loam/package.json'),
      koffi: join(MODULES, `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`),
    }
    const configuration = {
      main: 'entry.cjs',
      executable: node,
      output,
      disableExperimentalSEAWarning: true,
      // As NODE_OPTIONS in packages/loamd/src/systemd/install.ts.
      execArgv: ['--max-semi-space-size=4'],
      assets,
    }
    writeFileSync(join(folder, 'configuration.json'), JSON.stringify(configuration))
    mkdirSync(dirname(output), { recursive: true })
    run(process.execPath, folder, '--build-sea', join(folder, 'configuration.json'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function loadPage(): Promise<Readonly<Record<string, Uint8Array>>> {
  const { href } = new URL('../bundle-page.js', import.meta.url)
  const { bundlePage } = (await import(href)) as { bundlePage: () => Promise<Record<string, Uint8Array>> }
  return bundlePage()
}

function run(file: string, cwd: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${error?.message ?? stderr}`)
}

/** Builds the file that users get: a script with the executable behind it. */
export function buildSingleFile(executable: string, output: string): void {
  const bytes = readFileSync(executable)
  const script = readFileSync(join(import.meta.dirname, 'start.sh'), 'utf8')
  const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'packages/loam/package.json'), 'utf8')) as {
    version: string
  }
  const values: Readonly<Record<string, string>> = {
    VERSION: version,
    ARCH: process.arch,
    SIZE: String(Math.ceil(bytes.length / 1e6)),
    DIGEST: createHash('sha256').update(bytes).digest('hex').slice(0, 16),
    LINES: String(script.split('\n').length),
  }
  const head = script.replaceAll(/@([A-Z]+)@/g, (whole, name: string) => values[name] ?? whole)
  writeFileSync(output, Buffer.concat([Buffer.from(head), gzipSync(bytes, { level: 9 })]), { mode: 0o755 })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [output = join(REPOSITORY, 'dist/loam')] = process.argv.slice(2)
  const executable = `${output}.executable`
  await buildExecutable(executable)
  buildSingleFile(executable, output)
  for (const file of [executable, output]) console.log(`${file}: ${Math.round(statSync(file).size / 1e6)} MB`)
}
