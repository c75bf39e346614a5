// Signatures of images as in cosign and sigstore, by keys and authorities of the tests.
import {
  MEDIA_TYPES,
  describeBytes,
  formatConfig,
  formatIndex,
  formatManifest,
  parseDigest,
} from '../image/index.ts'
import { spawnSync } from 'node:child_process'
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  X509Certificate,
} from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blob, type BuiltBlob } from './image-builder.ts'

const LOG_URL = 'https://log.test'

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** In PEM. */
  readonly publicPem: string
}

/** A key pair like cosign's. */
export function createKeyPair(type: 'ec' | 'ed25519' | 'rsa' = 'ec'): KeyPair {
  const pair =
    type === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : type === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ed25519')
  return { ...pair, publicPem: pair.publicKey.export({ type: 'spki', format: 'pem' }) }
}

/** The payload of cosign's first form (SIGNATURE_SPEC.md), and its signature in base64. */
export function signSimple(
  repository: string,
  digest: string,
  { privateKey }: Pick<KeyPair, 'privateKey'>,
): { payload: Buffer; signature: string } {
  const payload = Buffer.from(
    JSON.stringify({
      critical: {
        identity: { 'docker-reference': repository },
        image: { 'docker-manifest-digest': digest },
        type: 'cosign container image signature',
      },
      optional: null,
    }),
  )
  const algorithm = privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  return { payload, signature: sign(algorithm, payload, privateKey).toString('base64') }
}

/** The manifest that cosign tags `sha256-<hex>.sig`, with its blobs. */
export function simpleManifest(signatures: readonly ReturnType<typeof signSimple>[]): {
  manifest: BuiltBlob
  blobs: BuiltBlob[]
} {
  const config = blob(formatConfig({ architecture: '', os: '', config: {} }, []))
  const payloads = signatures.map(({ payload }) => blob(payload))
  const manifest = blob(
    formatManifest({
      mediaType: MEDIA_TYPES.ociManifest,
      config: describeBytes(MEDIA_TYPES.ociConfig, config.bytes),
      layers: payloads.map(({ bytes }, index) => ({
        ...describeBytes(MEDIA_TYPES.simpleSigning, bytes),
        annotations: { 'dev.cosignproject.cosign/signature': signatures[index]?.signature ?? '' },
      })),
    }),
  )
  return { manifest, blobs: [config, ...payloads] }
}

/** The signer of a bundle: a key, or a certificate of an authority with its transparency log. */
export type BundleSigner =
  | { readonly key: KeyPair; readonly hint?: string }
  | { readonly authority: Authority; readonly subject: string; readonly issuer: string }

/** A sigstore bundle over cosign's statement of an image (DSSE, in-toto). */
export function signBundle(digest: string, signer: BundleSigner, predicateType?: string): Buffer {
  const [algorithm = '', hex = ''] = digest.split(':')
  const payload = Buffer.from(
    JSON.stringify({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ digest: { [algorithm]: hex } }],
      predicateType: predicateType ?? 'https://sigstore.dev/cosign/sign/v1',
      predicate: {},
    }),
  )
  const payloadType = MEDIA_TYPES.inToto
  const encoded = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
    payload,
  ])
  const envelope = (signature: Buffer) => ({
    payload: payload.toString('base64'),
    payloadType,
    signatures: [{ sig: signature.toString('base64') }],
  })
  if ('key' in signer) {
    return Buffer.from(
      JSON.stringify({
        mediaType: MEDIA_TYPES.sigstoreBundle,
        verificationMaterial: { publicKey: { hint: signer.hint ?? '' }, tlogEntries: [] },
        dsseEnvelope: envelope(sign('sha256', encoded, signer.key.privateKey)),
      }),
    )
  }
  const { certificate, privateKey } = signer.authority.certify(signer.subject, signer.issuer)
  const signature = sign('sha256', encoded, privateKey)
  return Buffer.from(
    JSON.stringify({
      mediaType: MEDIA_TYPES.sigstoreBundle,
      verificationMaterial: {
        certificate: { rawBytes: certificate.raw.toString('base64') },
        tlogEntries: [signer.authority.log(payload, signature, certificate)],
      },
      dsseEnvelope: envelope(signature),
    }),
  )
}

/** A manifest with a bundle that refers to an image, and the index of it that a registry serves or receives. */
export function bundleReferrer(
  image: { readonly digest: string; readonly bytes: Buffer; readonly mediaType: string },
  bundle: Buffer,
): { manifest: BuiltBlob; blobs: BuiltBlob[]; index: BuiltBlob } {
  const empty = blob(Buffer.from('{}'))
  const content = blob(bundle)
  const artifactType = MEDIA_TYPES.sigstoreBundle
  const manifest = blob(
    formatManifest({
      mediaType: MEDIA_TYPES.ociManifest,
      artifactType,
      config: describeBytes(MEDIA_TYPES.ociEmpty, empty.bytes),
      layers: [describeBytes(artifactType, content.bytes)],
      subject: describeBytes(image.mediaType, image.bytes, parseDigest(image.digest)),
    }),
  )
  const described = describeBytes(MEDIA_TYPES.ociManifest, manifest.bytes)
  const index = blob(
    formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [{ ...described, artifactType }] }),
  )
  return { manifest, blobs: [empty, content], index }
}

/** A certificate authority with a transparency log, as in a sigstore instance; certificates by openssl. */
export class Authority implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'loam-authority-'))
  readonly #log = createKeyPair()
  #serial = 0

  constructor() {
    this.#openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'ca.key')
    const subject = ['-subj', '/O=test/CN=authority', '-days', '2']
    const extensions = [
      '-addext',
      'basicConstraints=critical,CA:TRUE',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
    ]
    this.#openssl('req', '-x509', '-new', '-key', 'ca.key', '-out', 'ca.crt', ...subject, ...extensions)
  }

  /** The trusted_root.json of this instance. */
  get trustRoot(): unknown {
    const validFor = { start: '2020-01-01T00:00:00Z' }
    return {
      mediaType: MEDIA_TYPES.sigstoreTrustedRoot,
      certificateAuthorities: [
        {
          subject: { organization: 'test', commonName: 'authority' },
          uri: 'https://ca.test',
          certChain: { certificates: [{ rawBytes: this.#certificate('ca.crt').raw.toString('base64') }] },
          validFor,
        },
      ],
      tlogs: [
        {
          baseUrl: LOG_URL,
          hashAlgorithm: 'SHA2_256',
          publicKey: {
            rawBytes: this.#logKey.toString('base64'),
            keyDetails: 'PKIX_ECDSA_P256_SHA_256',
            validFor,
          },
          logId: { keyId: this.#logId.toString('base64') },
        },
      ],
      ctlogs: [],
      timestampAuthorities: [],
    }
  }

  /** Creates a certificate for a signer that an issuer has identified. */
  certify(subject: string, issuer: string): { certificate: X509Certificate; privateKey: KeyObject } {
    this.#serial += 1
    const name = `leaf-${this.#serial}`
    writeFileSync(
      join(this.#folder, `${name}.ext`),
      `subjectAltName=critical,${subject.includes('://') ? 'URI' : 'email'}:${subject}
keyUsage=critical,digitalSignature
extendedKeyUsage=codeSigning
basicConstraints=critical,CA:FALSE
1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}
`,
    )
    this.#openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`)
    this.#openssl('req', '-new', '-key', `${name}.key`, '-out', `${name}.csr`, '-subj', '/O=test')
    const by = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1']
    this.#openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      ...by,
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.crt`,
    )
    return {
      certificate: this.#certificate(`${name}.crt`),
      privateKey: createPrivateKey(readFileSync(join(this.#folder, `${name}.key`))),
    }
  }

  /** An entry of the log, the only one in it, with its promise and its proof (rekor's dsse 0.0.1). */
  log(payload: Buffer, signature: Buffer, certificate: X509Certificate): unknown {
    const body = Buffer.from(
      JSON.stringify({
        apiVersion: '0.0.1',
        kind: 'dsse',
        spec: {
          payloadHash: { algorithm: 'sha256', value: sha256(payload).toString('hex') },
          signatures: [
            {
              signature: signature.toString('base64'),
              verifier: Buffer.from(certificate.toString()).toString('base64'),
            },
          ],
        },
      }),
    )
    const integratedTime = Math.floor(Date.now() / 1000)
    const entry = {
      body: body.toString('base64'),
      integratedTime,
      logID: this.#logId.toString('hex'),
      logIndex: 0,
    }
    const leaf = sha256(Buffer.concat([Buffer.of(0), body]))
    const note = `log.test\n1\n${leaf.toString('base64')}\n`
    const noteSignature = Buffer.concat([
      this.#logId.subarray(0, 4),
      sign('sha256', Buffer.from(note), this.#log.privateKey),
    ])
    return {
      logIndex: '0',
      logId: { keyId: this.#logId.toString('base64') },
      kindVersion: { kind: 'dsse', version: '0.0.1' },
      integratedTime: String(integratedTime),
      inclusionPromise: {
        signedEntryTimestamp: sign(
          'sha256',
          Buffer.from(JSON.stringify(entry)),
          this.#log.privateKey,
        ).toString('base64'),
      },
      inclusionProof: {
        logIndex: '0',
        rootHash: leaf.toString('base64'),
        treeSize: '1',
        hashes: [],
        checkpoint: { envelope: `${note}\n\u2014 log.test ${noteSignature.toString('base64')}\n` },
      },
      canonicalizedBody: body.toString('base64'),
    }
  }

  get #logKey(): Buffer {
    return this.#log.publicKey.export({ type: 'spki', format: 'der' })
  }

  get #logId(): Buffer {
    return sha256(this.#logKey)
  }

  #certificate(name: string): X509Certificate {
    return new X509Certificate(readFileSync(join(this.#folder, name)))
  }

  #openssl(...args: readonly string[]): void {
    const { status, stderr } = spawnSync('openssl', args, { cwd: this.#folder, encoding: 'utf8' })
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`)
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true })
  }
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest()
}
