import type { DetailedPeerCertificate } from 'node:tls'

const MAX_CHAIN = 10

/** Returns the error of a connection; for a certificate at a wrong time it also says when it is valid, and whose it is. */
export type Explain = (error: Error) => Error

/** Watches the handshake of a connection: its certificates are known only while it is open. */
export function watchCertificates(socket: unknown): Explain {
  const { TLSSocket } = process.getBuiltinModule('node:tls')
  if (!(socket instanceof TLSSocket)) return (error) => error
  let found: string | undefined
  // Before Node's own listener, which ends the connection.
  socket.prependListener('secure', () => {
    found = describeUntimely(socket.getPeerCertificate(true), Date.now())
  })
  return (error) => {
    const { code }: NodeJS.ErrnoException = error
    if (found === undefined || (code !== 'CERT_HAS_EXPIRED' && code !== 'CERT_NOT_YET_VALID')) return error
    return Object.assign(new Error(`${error.message}: ${found}`, { cause: error }), { code })
  }
}

/** Describes the first certificate of a chain that is not valid at a time. */
function describeUntimely(certificate: DetailedPeerCertificate, nowMs: number): string | undefined {
  let current: DetailedPeerCertificate | undefined = certificate
  for (let depth = 0; current !== undefined && depth < MAX_CHAIN; depth += 1) {
    const { valid_from: from, valid_to: to, subject }: DetailedPeerCertificate = current
    const issuer: DetailedPeerCertificate | undefined = current.issuerCertificate
    const isEarly = Date.parse(from) > nowMs
    if (isEarly || Date.parse(to) < nowMs) {
      const name = subject?.CN === undefined ? 'it' : `the one of ${String(subject.CN)}`
      return isEarly ? `${name} is valid from ${day(from)}` : `${name} was valid until ${day(to)}`
    }
    // A root is its own issuer.
    current = issuer === current ? undefined : issuer
  }
  return undefined
}

function day(time: string): string {
  return `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
