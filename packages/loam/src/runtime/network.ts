import { LoamError } from '../errors/index.ts'

/** The network that a container is in. */
export type Network =
  /** A network of its own, with only a loopback device. */
  | { readonly kind: 'none' }
  /** The network of this machine: its addresses, its services on loopback, its abstract sockets. */
  | { readonly kind: 'host' }
  /** An existing network, by the path of its namespace. */
  | { readonly kind: 'namespace'; readonly path: string }

/** Modes of podman and docker that need a program to set up a network. */
const BUILT: readonly string[] = ['bridge', 'private', 'slirp4netns', 'pasta', 'default']

/** Parses `none`, `host` or `ns:PATH`, as in podman. @throws USAGE */
export function parseNetwork(text: string): Network {
  if (text === 'none' || text === 'host') return { kind: text }
  const path = text.startsWith('ns:') ? text.slice('ns:'.length) : ''
  if (path.startsWith('/') && !path.includes('\0')) return { kind: 'namespace', path }
  const [mode = ''] = text.split(':')
  const why =
    BUILT.includes(mode) || mode === 'container'
      ? 'Loam does not create networks or join containers'
      : 'it is not known'
  throw new LoamError('USAGE', `use network ${JSON.stringify(text)}: ${why}`, {
    hint: 'Write none, host, or ns:/run/netns/NAME for one that `ip netns add NAME` or CNI has made.',
  })
}

/** Checks a host name, which is also written to the container's /etc/hosts (hostname(7)). @throws USAGE */
export function checkHostname(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}$/.test(name)) return name
  throw new LoamError('USAGE', `invalid host name ${JSON.stringify(name.slice(0, 200))}`, {
    hint: 'Write up to 63 letters, digits, dots and dashes, starting with a letter or digit.',
  })
}
