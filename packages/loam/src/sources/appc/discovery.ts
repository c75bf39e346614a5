/*
 * Finding an Appc image. Simple discovery derives its address from its name. Meta discovery reads a template from the web page of
 * the name, and then of each shorter name. Source: appc spec/discovery.md.
 *   <meta name="ac-discovery" content="example.com/app https://storage.example.com/{os}/{arch}/app-{version}.{ext}">
 */
import { closeSync, existsSync, readdirSync, readSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../../errors/index.ts'
import { type AppcName, compareAppcVersions, isAppcLatest } from '../../image/index.ts'
import { openInput } from '../../linux/index.ts'
import { fetchFile, type RemoteFileOptions } from '../remote-file.ts'

const MAX_PAGE_BYTES = 1 << 20
/** Limit of the candidates, all of which may be tried. */
const MAX_PLACES = 16
const HEAD_BYTES = 128

/** Addresses or paths of an image and of its signature. */
export interface AciUrls {
  readonly aci: string
  readonly signature: string
  /** The page that names them. */
  readonly namedBy?: URL | undefined
}

/** An image's file here, and that of its signature when that was asked for. */
export interface FetchedAci {
  readonly urls: AciUrls
  readonly path: string
  readonly signaturePath: string | undefined
}

export interface DiscoveryOptions extends RemoteFileOptions {
  /** Prefixes of addresses: `https://`, `https://host/path/`, `/dir/`, `hdfs://…`; the first one that has the image is used. */
  readonly prefixes: readonly string[]
  readonly withSignature: boolean
}

/** Finds an image and fetches its file. @throws IMAGE_NOT_FOUND with all candidates that were tried, REGISTRY_* */
export async function discoverAci(
  wanted: AppcName,
  options: DiscoveryOptions,
  signal: AbortSignal | undefined,
): Promise<FetchedAci> {
  const failures: LoamError[] = []
  const attempt = async <T>(act: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await act()
    } catch (error) {
      throwIfAborted(signal, `find ${wanted.name}`)
      failures.push(toLoamError(error, `find ${wanted.name}`))
      return undefined
    }
  }
  for (const prefix of options.prefixes) {
    const fetched = await attempt(async () => fetchAci(simpleUrls(prefix, wanted), options, signal))
    if (fetched !== undefined) return fetched
    if (!/^https?:\/\/$/.test(prefix)) continue
    for (const urls of await findByMeta(wanted, prefix, { ...options, attempt }, signal)) {
      const found = await attempt(async () => fetchAci(urls, options, signal))
      if (found !== undefined) return found
    }
  }
  const [first, second] = failures
  if (first === undefined)
    throw new LoamError('CONFIG_INVALID', `find ${wanted.name}: no location is configured`)
  const clearest = failures.findLast(({ kind }) => kind !== 'not_found') ?? first
  throw new LoamError(
    second === undefined ? first.code : clearest.code,
    `find ${wanted.name}: ${[...new Set(failures.map(({ message }) => message))].join('; ')}`,
    {
      cause: clearest,
      hint: 'Check the name and the labels; appc_simple_discovery_uri_prefix sets where to search, and --insecure HOST allows plain http.',
    },
  )
}

/** Fetches the signature of an image. @throws SIGNATURE_INVALID if the image exists without a signature; as `fetchFile` */
export async function fetchSignature(
  { aci, signature }: AciUrls,
  isImageThere: boolean,
  options: RemoteFileOptions,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    return await fetchFile(signature, options, signal)
  } catch (error) {
    const failure = toLoamError(error, `get ${signature}`)
    if (failure.kind !== 'not_found' || !isImageThere) throw failure
    throw new LoamError('SIGNATURE_INVALID', `verify ${aci}: it is not signed (${failure.message})`, {
      cause: failure,
      hint: 'appc_keyring requires a signature by one of its keys next to the image: FILE.asc.',
    })
  }
}

async function fetchAci(
  urls: AciUrls,
  given: DiscoveryOptions,
  signal: AbortSignal | undefined,
): Promise<FetchedAci> {
  const options = { ...given, namedBy: urls.namedBy }
  // The signature first: it is small, and without it nothing else is of use.
  const isThere = isAbsolute(urls.aci) && existsSync(urls.aci)
  const signaturePath = options.withSignature
    ? await fetchSignature(urls, isThere, options, signal)
    : undefined
  const path = await fetchFile(urls.aci, options, signal)
  // Many servers answer any request with a page.
  if (/^\s*<(?:!doctype|html|head|\?xml)/i.test(readHead(path))) {
    throw new LoamError('IMAGE_NOT_FOUND', `get ${urls.aci}: the response is a web page`)
  }
  return { urls, path, signaturePath }
}

function readHead(path: string): string {
  const head = Buffer.alloc(HEAD_BYTES)
  const fd = openInput(path)
  try {
    return head.toString('latin1', 0, readSync(fd, head))
  } finally {
    closeSync(fd)
  }
}

/** Returns the URLs of simple discovery. In a local folder, `latest` is the highest version that exists. */
function simpleUrls(prefix: string, wanted: AppcName): AciUrls {
  const { version = '', os = '', arch = '' } = wanted.labels
  const { start, isFolder } = startOf(prefix)
  const file = (ofVersion: string) => `${start}${wanted.name}-${ofVersion}-${os}-${arch}.aci`
  const latest = isFolder && isAppcLatest(wanted) ? findHighest(file) : undefined
  const aci = latest ?? file(isFolder ? version : encodeURIComponent(version))
  return { aci, signature: `${aci}.asc` }
}

function startOf(prefix: string): { start: string; isFolder: boolean } {
  const path = prefix.replace(/^file:\/\//, '')
  const isFolder = path.startsWith('/')
  return { start: isFolder && !path.endsWith('/') ? `${path}/` : path, isFolder }
}

function findHighest(file: (version: string) => string): string | undefined {
  const [before = '', after = ''] = file('\n').split('\n')
  const folder = dirname(`${before}x`)
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw toLoamError(error, `read ${folder}`)
  }
  const paths = names
    .map((name) => join(folder, name))
    .filter((path) => path.startsWith(before) && path.endsWith(after))
  if (paths.includes(file('latest'))) return file('latest')
  const versionOf = (path: string) => path.slice(before.length, path.length - after.length)
  return paths.toSorted((a, b) => compareAppcVersions(versionOf(a), versionOf(b))).at(-1)
}

type Attempt = <T>(act: () => Promise<T>) => Promise<T | undefined>

async function findByMeta(
  wanted: AppcName,
  prefix: string,
  options: DiscoveryOptions & { readonly attempt: Attempt },
  signal: AbortSignal | undefined,
): Promise<AciUrls[]> {
  const parts = wanted.name.split('/')
  for (let length = parts.length; length > 0; length -= 1) {
    const address = `${parts.slice(0, length).join('/')}?ac-discovery=1`
    const isPlain = prefix === 'http://' || options.files.mayBePlain(parts[0] ?? '')
    for (const scheme of isPlain ? ['https', 'http'] : ['https']) {
      const page = await options.attempt(async () => {
        if (!URL.canParse(`${scheme}://${address}`))
          throw new LoamError('IMAGE_NOT_FOUND', `get ${scheme}://${address}: it is no address`)
        return options.files.get(new URL(`${scheme}://${address}`), MAX_PAGE_BYTES, signal)
      })
      const candidates = page === undefined ? [] : renderUrls(page.bytes.toString('utf8'), wanted)
      if (candidates.length === 0) continue
      const namedBy = new URL(`${scheme}://${address}`)
      return candidates.map((urls) => ({ ...urls, namedBy }))
    }
  }
  return []
}

/** Returns the candidates that a page names for an image, at most as many as will be tried. */
export function renderUrls(page: string, wanted: AppcName): AciUrls[] {
  const variables = Object.entries({ ...wanted.labels, name: wanted.name })
  const render = (template: string, ext: string) =>
    [...variables, ['ext', ext] as const].reduce(
      (text, [name, value]) =>
        text.replaceAll(`{${name}}`, name === 'name' ? value : encodeURIComponent(value)),
      template,
    )
  return readMetaTags(page)
    .filter(({ name }) => name === 'ac-discovery')
    .flatMap(({ content }) => {
      const [, prefix = '', rest = ''] = /^(\S+)\s+(.+)$/s.exec(content.trim()) ?? []
      const template = rest.trim()
      const isOurs = prefix !== '' && (wanted.name === prefix || wanted.name.startsWith(prefix))
      const urls = { aci: render(template, 'aci'), signature: render(template, 'aci.asc') }
      // An unknown variable, or not an address of the web.
      const isWhole = !holdsVariable(urls.aci) && /^https?:\/\//.test(urls.aci) && URL.canParse(urls.aci)
      return isOurs && isWhole ? [urls] : []
    })
    .slice(0, MAX_PLACES)
}

function holdsVariable(text: string): boolean {
  const open = text.indexOf('{')
  return open >= 0 && text.includes('}', open)
}

const IGNORED = /<!--[\s\S]*?(?:-->|$)|<(script|style)\b[\s\S]*?(?:<\/\1\s*>|$)/gi
// Bounded, so that no page takes long to read.
const TAG = /<meta\s([^<>]{0,2048})>/gi
const ATTRIBUTE = /(?:^|\s)([a-z-]{1,32})\s{0,8}=\s{0,8}(?:"([^"]*)"|'([^']*)'|([^\s"']+))/gi
const ENTITIES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    amp: '&',
    quot: '"',
    apos: "'",
    lt: '<',
    gt: '>',
    '#39': "'",
    '#34': '"',
  }),
)

/** Reads the meta tags of an HTML page, except those in comments and scripts. */
function readMetaTags(page: string): { name: string; content: string }[] {
  return [...page.replaceAll(IGNORED, '').matchAll(TAG)].map(([, inside = '']) => {
    const attributes = new Map<string, string>()
    for (const [, key = '', double, single, bare] of inside.matchAll(ATTRIBUTE)) {
      const value = double ?? single ?? bare ?? ''
      attributes.set(
        key.toLowerCase(),
        value.replaceAll(/&(\w+|#\d+);/g, (whole, entity: string) => ENTITIES.get(entity) ?? whole),
      )
    }
    return { name: attributes.get('name') ?? '', content: attributes.get('content') ?? '' }
  })
}
