import { fromBinary } from '@bufbuild/protobuf'
import { type Credential, type ImageReference, isLoamError, parseReference } from 'loamfs'
import { type AuthConfig, PullImageRequestSchema } from '../../gen/cri_pb.js'

/** One byte that says whether the message is compressed, and four of its length (gRPC over HTTP/2). */
const HEADER_BYTES = 5
const FROM = 'the client of CRI'

/** The image of a pull, and the credential that its client gave. */
export interface GivenCredential {
  readonly image: ImageReference
  readonly credential: Credential
}

/** Reads the body of a PullImage call. Undefined if it has no credential for the registry of its image, or cannot be read: containerd answers then. */
export function readPullRequest(body: Buffer): GivenCredential | undefined {
  if (body.length < HEADER_BYTES || body[0] !== 0) return undefined
  try {
    const { image, auth } = fromBinary(PullImageRequestSchema, body.subarray(HEADER_BYTES))
    if (image === undefined || auth === undefined) return undefined
    const reference = parseReference(image.image)
    const credential = isFor(auth.serverAddress, reference) ? credentialIn(auth) : undefined
    return credential === undefined ? undefined : { image: reference, credential }
  } catch (error) {
    // A message of another kind is a RangeError or a TypeError of the decoder.
    if (isLoamError(error) || error instanceof Error) return undefined
    throw error
  }
}

/** A credential for another server is not used (containerd, ParseAuth). */
function isFor(server: string, { registry }: ImageReference): boolean {
  if (server === '') return true
  const [host = ''] = server.replace(/^https?:\/\//i, '').split('/')
  // A single word is a host here, and in a reference a part of a name at Docker Hub.
  if (!/[.:[]/.test(host) && host !== 'localhost') return false
  return parseReference(`${host}/x`).registry === registry
}

/** In the order of containerd, which does not know registry tokens. */
function credentialIn(auth: AuthConfig): Credential | undefined {
  const { username, password, identityToken, registryToken } = auth
  if (username !== '') return { kind: 'password', username, password, from: FROM }
  if (identityToken !== '') return { kind: 'identity-token', token: identityToken, from: FROM }
  const [user = '', ...rest] = Buffer.from(auth.auth, 'base64')
    .toString('utf8')
    .replace(/\0+$/, '')
    .split(':')
  if (user !== '') return { kind: 'password', username: user, password: rest.join(':'), from: FROM }
  if (registryToken !== '') return { kind: 'registry-token', token: registryToken, from: FROM }
  return undefined
}
