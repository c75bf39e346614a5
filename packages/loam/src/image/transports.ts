interface Transport {
  /** `name`: what follows is a name. `file`: a path. `record`: only locations have it. `foreign`: other programs have it. */
  readonly kind: 'name' | 'file' | 'record' | 'foreign'
  /** The transport of its locations and of its names in the store. */
  readonly location?: string
  /** What may follow a path, and chooses one of several images. */
  readonly selector?: 'tag or digest' | 'reference'
}

/** All transports: `mesos` is a store of an agent, `commit` a container or snapshot that an image was created from. */
const TRANSPORTS = {
  docker: { kind: 'name' },
  appc: { kind: 'name' },
  oci: { kind: 'file', location: 'oci', selector: 'tag or digest' },
  'oci-archive': { kind: 'file', location: 'oci', selector: 'tag or digest' },
  'docker-archive': { kind: 'file', location: 'docker-archive', selector: 'reference' },
  aci: { kind: 'file', location: 'aci' },
  mesos: { kind: 'record', location: 'mesos' },
  commit: { kind: 'record', location: 'commit' },
  'containers-storage': { kind: 'foreign' },
  'docker-daemon': { kind: 'foreign' },
  dir: { kind: 'foreign' },
  ostree: { kind: 'foreign' },
  tarball: { kind: 'foreign' },
  sif: { kind: 'foreign' },
  atomic: { kind: 'foreign' },
} as const satisfies Readonly<Record<string, Transport>>

type Row = (typeof TRANSPORTS)[keyof typeof TRANSPORTS]
/** The transports of the locations of local sources. */
export type FileTransport = Extract<Row, { readonly location: string }>['location']

const TABLE: ReadonlyMap<string, Transport & { readonly location?: FileTransport }> = new Map(
  Object.entries(TRANSPORTS),
)

/** The transports of the locations of local sources. */
export const FILE_TRANSPORTS: readonly FileTransport[] = [
  ...new Set([...TABLE.values()].flatMap(({ location }) => location ?? [])),
]

/** A text with a transport. */
export interface TransportText extends Transport {
  readonly transport: string
  /** The text behind the colon. */
  readonly rest: string
}

/** Splits a text that begins with a transport of one of some kinds; undefined for another text. */
export function splitTransport(
  text: string,
  ...kinds: readonly Transport['kind'][]
): TransportText | undefined {
  const colon = text.indexOf(':')
  const transport = text.slice(0, Math.max(colon, 0))
  const found = TABLE.get(transport)
  if (found === undefined || !kinds.includes(found.kind)) return undefined
  return { ...found, transport, rest: text.slice(colon + 1) }
}

/** Returns the transport of the locations of a transport; undefined if they are not those of files. */
export function locationTransport(transport: string): FileTransport | undefined {
  return TABLE.get(transport)?.location
}

/** Returns the address of a file of several images, which may be given with its transport. */
export function archiveAddress(text: string): string {
  const { selector, rest } = splitTransport(text, 'file') ?? {}
  return selector === undefined || rest === undefined ? text : rest
}
