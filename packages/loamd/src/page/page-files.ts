import { readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ownExecutable } from 'loamfs/internal'

/** A file of the page, as it is sent. */
export interface PageFile {
  readonly type: string
  readonly bytes: Uint8Array
}

/** The files of the page by their paths. */
export type PageFiles = ReadonlyMap<string, PageFile>

const NAMES = ['index.html', 'page.js', 'page.css', 'icon.svg'] as const

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Bundles the page of a checkout; see scripts/bundle-page.js. */
type BundlePage = () => Promise<Readonly<Record<string, Uint8Array>>>

/** Reads the files of the page: those of the package; in a checkout, which has no build, bundles the sources. */
export async function readPageFiles(): Promise<PageFiles> {
  const files = extname(import.meta.url) === '.ts' ? await bundleSources() : readBuilt()
  return new Map(
    NAMES.map((name) => [
      name === 'index.html' ? '/' : `/${name}`,
      { type: TYPES[extname(name)] ?? '', bytes: files[name] ?? new Uint8Array() },
    ]),
  )
}

async function bundleSources(): Promise<Readonly<Record<string, Uint8Array>>> {
  const { href } = new URL('../../../../scripts/bundle-page.js', import.meta.url)
  const { bundlePage } = (await import(href)) as { readonly bundlePage: BundlePage }
  return bundlePage()
}

function readBuilt(): Readonly<Record<string, Uint8Array>> {
  return Object.fromEntries(NAMES.map((name) => [name, readOne(name)]))
}

function readOne(name: string): Uint8Array {
  const executable = ownExecutable()
  if (executable !== undefined) return executable.read(`page/${name}`)
  return readFileSync(fileURLToPath(new URL(`./page/${name}`, import.meta.url)))
}
