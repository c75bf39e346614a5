/*
 * The reach of an address: who can connect to it. It is decided by the text alone: no name is looked up.
 *
 * Sources: IANA's special-purpose registries (RFC 6890) for IPv4 and IPv6; RFC 6052 and 8215 (NAT64), 3056 (6to4), 4291 (mapped and
 * compatible), 6761 (localhost).
 */
import { isIP } from 'node:net'

/** Who can reach an address: this machine, its link (cloud metadata is there), a private network, everybody. */
export type Reach = 'loopback' | 'link' | 'private' | 'public'

const NEARNESS: Readonly<Record<Reach, number>> = { public: 0, private: 1, link: 2, loopback: 3 }

/** Returns whether one reach is nearer to this machine than another. */
export function isNearer(reach: Reach, other: Reach): boolean {
  return NEARNESS[reach] > NEARNESS[other]
}

/** Returns the farthest reach; undefined for an empty list. */
export function farthest(reaches: Iterable<Reach>): Reach | undefined {
  return [...reaches].toSorted((a, b) => NEARNESS[a] - NEARNESS[b])[0]
}

/** Returns a host without its port; an IPv6 address without brackets. */
export function hostOf(registry: string): string {
  const ipv6 = /^\[([^\]]+)\]/.exec(registry)
  return ipv6?.[1] ?? registry.split(':')[0] ?? registry
}

/** Returns the host of an address; IPv6 without brackets. */
export function bareHost(url: URL): string {
  return url.hostname.replaceAll(/[[\]]/g, '')
}

/**
 * Returns whether a host certainly is this machine. Other names of loopback, such as `x.localhost`, are not: a resolver may give
 * another address for them. Source: Go's `net.IP.IsLoopback` and x/net/http/httpproxy.
 */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.')
  if (isIP(host) !== 6) return host === 'localhost'
  const address = readIpv6(host)
  // ::1 and ::ffff:127.0.0.0/104
  return address === 1n || address >> 24n === 0xff_ff7fn
}

/** Returns the reach of a host: an address in any form of a URL, or a name. Names other than `localhost` are public. */
export function reachOf(host: string): Reach {
  switch (isIP(host)) {
    case 4:
      return reachOfIpv4(readIpv4(host))
    case 6:
      return reachOfIpv6(readIpv6(host))
    default:
      return /(?:^|\.)localhost\.*$/i.test(host) ? 'loopback' : 'public'
  }
}

/** Top-level names of private networks: ICANN's of 2024, RFC 6762 and 8375, and common names of local hosts. */
const PRIVATE_NAMES = /\.(?:internal|local|localdomain|home\.arpa|lan|intranet)\.?$/i

/** Returns the reach of a name that is not looked up: a name without a dot, or of a private network, is private. */
export function reachOfName(host: string): Reach {
  const reach = reachOf(host)
  if (reach !== 'public' || isIP(host) !== 0) return reach
  return /\.(?!$)/.test(host) && !PRIVATE_NAMES.test(host) ? 'public' : 'private'
}

// The first block that matches counts. Special addresses of no block (documentation, multicast, reserved) are private.
const IPV4_BLOCKS: readonly Block[] = [
  ['0.0.0.0', 8, 'loopback'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'link'],
  ['10.0.0.0', 8, 'private'],
  ['100.64.0.0', 10, 'private'],
  ['172.16.0.0', 12, 'private'],
  ['192.0.0.0', 24, 'private'],
  ['192.0.2.0', 24, 'private'],
  ['192.88.99.0', 24, 'private'],
  ['192.168.0.0', 16, 'private'],
  ['198.18.0.0', 15, 'private'],
  ['198.51.100.0', 24, 'private'],
  ['203.0.113.0', 24, 'private'],
  ['224.0.0.0', 3, 'private'],
]

type Block = readonly [address: string, prefixLength: number, reach: Reach]

function reachOfIpv4(address: bigint): Reach {
  const found = IPV4_BLOCKS.find(
    ([block, prefixLength]) => (address ^ readIpv4(block)) >> BigInt(32 - prefixLength) === 0n,
  )
  return found?.[2] ?? 'public'
}

/** Blocks of IPv6 addresses that contain the IPv4 address to which packets go, that many bits from their end. */
const EMBEDDING: readonly (readonly [address: string, prefixLength: number, fromEnd: bigint])[] = [
  ['::', 96, 0n],
  ['::ffff:0:0', 96, 0n],
  ['::ffff:0:0:0', 96, 0n],
  ['64:ff9b::', 96, 0n],
  ['2002::', 16, 80n],
]

const IPV6_BLOCKS: readonly Block[] = [
  ['64:ff9b:1::', 48, 'private'],
  ['100::', 64, 'private'],
  ['2001::', 23, 'private'],
  ['2001:db8::', 32, 'private'],
  ['3fff::', 20, 'private'],
  ['5f00::', 16, 'private'],
  ['fc00::', 7, 'private'],
  ['fec0::', 10, 'private'],
  ['ff00::', 8, 'private'],
  ['fe80::', 10, 'link'],
]

function reachOfIpv6(address: bigint): Reach {
  // These two are in ::/96, too: the unspecified address, which Linux treats as loopback, and loopback itself.
  if (address <= 1n) return 'loopback'
  const isIn = (block: string, prefixLength: number) =>
    (address ^ readIpv6(block)) >> BigInt(128 - prefixLength) === 0n
  const embedding = EMBEDDING.find(([block, prefixLength]) => isIn(block, prefixLength))
  if (embedding !== undefined) return reachOfIpv4((address >> embedding[2]) & 0xffff_ffffn)
  return IPV6_BLOCKS.find(([block, prefixLength]) => isIn(block, prefixLength))?.[2] ?? 'public'
}

function readIpv4(text: string): bigint {
  return toNumber(text.split('.').map(Number), 8n)
}

/** Parses an IPv6 address that `isIP` has accepted. */
function readIpv6(text: string): bigint {
  const url = new URL(`http://[${text.replace(/%.*$/, '')}]`)
  const [left = '', right] = bareHost(url).split('::')
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16))
  const before = groups(left)
  const after = groups(right ?? '')
  const zeros = Array<number>(8 - before.length - after.length).fill(0)
  return toNumber([...before, ...zeros, ...after], 16n)
}

function toNumber(parts: readonly number[], bits: bigint): bigint {
  return parts.reduce((value, part) => (value << bits) | BigInt(part), 0n)
}
