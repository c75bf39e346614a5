// The time of code that reads text from outside: twice as much text may take twice as long, and not four times.
import { editDistance } from '../../src/errors/index.ts'
import { formatTable } from '../../src/cli/format.ts'
import { isLoamError, keepSecret, LoamError, redact, visible, visibleJson } from '../../src/errors/index.ts'
import {
  compareAppcVersions,
  describeEntries,
  isSchema1,
  parseAppcManifest,
  parseAppcName,
  parseImageConfig,
  parseManifestDocument,
  parsePlatform,
  parseReference,
  parseSchema1,
  parseStrictJson,
} from '../../src/image/index.ts'
import { parseMountTable } from '../../src/linux/mount-table.ts'
import { suits } from '../../src/policy/bundle.ts'
import { parseLocation } from '../../src/policy/index.ts'
import { parseScope } from '../../src/policy/scope.ts'
import { isLoopback, reachOf } from '../../src/registry/addresses.ts'
import { findInAuthFile, parseAuthFile } from '../../src/registry/auth-file.ts'
import { parseChallenges } from '../../src/registry/challenge.ts'
import { isNamed } from '../../src/registry/endpoints.ts'
import { createProxyFinder } from '../../src/registry/proxies.ts'
import { resolveAddress } from '../../src/registry/redirects.ts'
import { retryAfterMs } from '../../src/registry/responses.ts'
import { scopesToAsk } from '../../src/registry/scopes.ts'
import { parseIdMapping } from '../../src/linux/index.ts'
import { tokenTimeFault } from '../../src/registry/token-times.ts'
import { mergeEnv, parseCommandInfo, searchPath } from '../../src/runtime/index.ts'
import { parseMount } from '../../src/runtime/mounts.ts'
import { resolveUser } from '../../src/runtime/users.ts'
import { parseFilters } from '../../src/snapshotter/filters.ts'
import { renderUrls } from '../../src/sources/appc/discovery.ts'
import { parseImageName } from '../../src/sources/image-name.ts'
import { TarReader } from '../../src/tar/index.ts'
import { parsePaxRecords } from '../../src/tar/pax.ts'
import { splitPath } from '../../src/tree/index.ts'
import type { Target } from './engine.ts'

/** A text of any length: a beginning, a repeated part, and an end. */
export interface Shape {
  readonly before: string
  readonly unit: string
  readonly after: string
}

interface Reader {
  readonly read: (text: string) => unknown
  /** Number of characters beyond which it refuses at once. */
  readonly limit?: number
}

const PLATFORM = { os: 'linux', architecture: 'amd64' }
const RULES = {
  tls: { ca: [], client: undefined, skipVerify: false },
  mayBePlain: true,
  mayBePrivate: true,
  mayBePrivateTarget: true,
}
const APPC = parseAppcName('appc://example.com/a', PLATFORM)
const infoWithLabel = (label: string) => ({
  name: 'a',
  parent: '',
  diffId: undefined,
  kind: 'active' as const,
  labels: { a: label },
  createdUs: 0,
  updatedUs: 0,
})
const INFO = infoWithLabel('a'.repeat(64))
/** Each of them is as costly for a character of a label as an expression can be, in another way. */
const COSTLY = parseFilters(
  ['(a*)*b', '(.{0,9}.){40}b', '(\\pL|a|.)+$b'].map((each) => `labels.a~=${JSON.stringify(each)}`),
)
const bytes = (text: string) => Buffer.from(text, 'latin1')
const answer = (name: string, value: string) => ({ headers: { [name]: value } }) as never

/** All code that reads foreign text by itself. Libraries (URL, TOML, JSON.parse) are measured through the code that calls them. */
const READERS: Readonly<Record<string, Reader>> = {
  redact: { read: redact },
  visible: { read: visible },
  visibleJson: { read: visibleJson },
  error: { read: (text) => new LoamError('SYSTEM', text, { hint: text, details: { text } }).toPlain() },
  secret: {
    read: (text) => {
      keepSecret(text.slice(0, 2000))
      redact(text)
    },
  },
  table: {
    read: (text) =>
      formatTable(
        ['a', 'b'],
        text.split('\n').map((line) => [line, line]),
      ),
  },
  reference: { read: parseReference, limit: 1024 },
  imageName: {
    read: (text) => parseImageName(text, { registry: 'docker.io', platform: PLATFORM }),
    limit: 8192,
  },
  appcName: { read: (text) => parseAppcName(text, PLATFORM), limit: 8192 },
  appcVersions: { read: (text) => compareAppcVersions(text, `${text}1`) },
  platform: { read: parsePlatform },
  json: { read: (text) => parseStrictJson(bytes(text), 'x') },
  manifest: {
    read: (text) => {
      const found = parseManifestDocument(bytes(text), text, 'x')
      return found.kind === 'index' ? describeEntries(found) : found
    },
  },
  config: { read: (text) => parseImageConfig(bytes(text), 'x') },
  schema1: { read: (text) => isSchema1(bytes(text), text) && parseSchema1(bytes(text), 'x') },
  appcManifest: { read: (text) => parseAppcManifest(bytes(text), 'x') },
  mountTable: { read: parseMountTable },
  scope: {
    read: (text) => [
      parseScope(text, 'docker.io'),
      parseScope(`oci:/${text}`, 'docker.io'),
      parseScope(`appc://${text}`, 'x'),
    ],
  },
  place: { read: (text) => [parseLocation(text), parseLocation(`oci:/${text}`)] },
  identity: { read: (text) => suits('https://a*b*c*d', text) },
  address: { read: (text) => [reachOf(text), isLoopback(text), isNamed(text, [text])] },
  authFile: {
    read: async (text) =>
      findInAuthFile(
        parseAuthFile(Buffer.from('{"auths":{"*a*b*c.?*":{"auth":"eDp5"}}}'), 'x'),
        { registry: text, repository: text },
        { where: 'x', env: {} },
      ),
  },
  challenge: { read: (text) => parseChallenges([text]), limit: 8192 },
  noProxy: {
    read: (text) =>
      createProxyFinder({ httpProxy: '', httpsProxy: 'http://p', noProxy: text })(new URL('https://a.b')),
  },
  redirect: {
    read: (text) =>
      resolveAddress(text, new URL('https://a.test/b'), { attempted: 'x', rulesOf: () => RULES }),
  },
  retryAfter: { read: (text) => retryAfterMs(answer('retry-after', text)) },
  scopes: { read: (text) => scopesToAsk('repository:a/b:pull', text) },
  token: { read: (text) => tokenTimeFault(text, 0) },
  environment: {
    read: (text) =>
      searchPath(
        mergeEnv({ env: [`PATH=${text}`, ...text.split('\n')] } as never, { env: [], terminal: false }, '/'),
      ),
  },
  commandInfo: { read: parseCommandInfo },
  mount: { read: parseMount },
  user: { read: (text) => resolveUser('root', { passwd: `root:x:0:0::/:\n${text}`, group: text }) },
  longUser: { read: (text) => resolveUser(text, { passwd: text, group: text }) },
  filters: { read: (text) => parseFilters(text.split('\n'))(INFO), limit: 16_000 },
  // The time of an expression is its length times that of the label: each of them grows by itself.
  expression: { read: (text) => parseFilters([`labels.a~=${JSON.stringify(text)}`])(INFO), limit: 1000 },
  label: { read: (text) => COSTLY(infoWithLabel(text)), limit: 4096 },
  idMapping: { read: (text) => parseIdMapping(text, text, (why) => new LoamError('SNAPSHOT_INVALID', why)) },
  discovery: { read: (text) => renderUrls(text, APPC) },
  pax: { read: (text) => parsePaxRecords(bytes(text)) },
  tar: {
    read: (text) => {
      const reader = new TarReader(() => undefined)
      reader.write(bytes(text))
      reader.end()
    },
  },
  path: { read: (text) => splitPath(bytes(text)) },
  word: { read: (text) => editDistance(text, 'provision') },
}

const MAX_LENGTH = 16_384
/** Below this time any growth is fast enough. */
const SLOW_MS = 30
/** Linear code has a factor of 2; a busy machine makes it imprecise. */
const MAX_GROWTH = 3
const TRIES = 8

function textOf({ before, unit, after }: Shape, length: number): string {
  const count = Math.max(0, Math.floor((length - before.length - after.length) / Math.max(1, unit.length)))
  return before + unit.repeat(count) + after
}

/** Returns how many ms of this process's own time reading a text takes. */
async function measure({ read }: Reader, text: string): Promise<number> {
  const start = process.cpuUsage()
  try {
    await read(text)
  } catch (error) {
    // A library's own errors are those of wrong use.
    if (!isLoamError(error)) throw error
  }
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

/** Returns the readers that take more than linear time for a shape, with the time. */
export async function findSlow(shape: Shape): Promise<string[]> {
  const slow: string[] = []
  for (const [name, reader] of Object.entries(READERS)) {
    const length = reader.limit ?? MAX_LENGTH
    const whole = textOf(shape, length)
    let tookMs = await measure(reader, whole)
    let growth = Infinity
    for (let tries = 0; tookMs > SLOW_MS && growth > MAX_GROWTH && tries < TRIES; tries += 1) {
      const halfMs = await measure(reader, textOf(shape, length / 2))
      tookMs = Math.min(tookMs, await measure(reader, whole))
      growth = Math.min(growth, tookMs / Math.max(halfMs, 1))
    }
    if (tookMs > SLOW_MS && growth > MAX_GROWTH)
      slow.push(
        `${name} takes ${tookMs.toFixed(0)} ms for ${whole.length} characters, ${growth.toFixed(1)} times what half of them take`,
      )
  }
  return slow
}

/** Shapes of text that have been too costly in other programs. */
export const SHAPES: readonly Shape[] = [
  ...[
    'a',
    'a-',
    'a.',
    '-',
    '/',
    '//',
    ':',
    '://',
    '@',
    'a@',
    'a:',
    ' ',
    ' ,',
    ',',
    '=',
    'a=',
    '"',
    '\\',
    '\n',
    '\t',
  ],
  ...[
    '0',
    '1.',
    '../',
    './',
    'é',
    '\u001b',
    '\u202e',
    '{',
    '[',
    '[[',
    '<',
    '<meta ',
    '<!--',
    '%',
    '?',
    '&a=b',
    ';',
  ],
  ...[
    'a=b,',
    'a:b:c:d\n',
    'bearer ',
    'https://u:p@h/?q ',
    '{"a":',
    '"a":1,',
    'localhost.',
    'a+',
    '(a|a)*',
    'a*',
  ],
].flatMap((unit) => [
  { before: '', unit, after: '' },
  { before: 'a', unit, after: '\u0000!' },
])

/** Takes `before`, `unit` and `after`, divided by zero bytes. */
export const TIME: Target = {
  name: 'time',
  seeds: () => SHAPES.map(({ before, unit, after }) => Buffer.from([before, unit, after].join('\0\0'))),
  words: [
    '{"a":"',
    '<meta name="ac-discovery" content="',
    'oci:',
    'appc://',
    'labels.a~=',
    '30 path=',
    '\0\0',
    '"',
    ':',
  ],
  maxBytes: 200,
  run: async (input) => {
    const [before = '', unit = '', after = ''] = input.toString('utf8').split('\0\0')
    const [slow] = await findSlow({ before, unit, after })
    if (slow !== undefined) throw new Error(slow)
  },
}
