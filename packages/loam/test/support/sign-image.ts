// Signatures in a real registry, as cosign keeps them.
import assert from 'node:assert/strict'
import { MEDIA_TYPES } from '../../src/image/index.ts'
import { type BuiltBlob, type KeyPair, signSimple, simpleManifest } from '../../src/testing/index.ts'

/** Uploads a manifest. */
export async function putManifest(
  repository: string,
  tag: string,
  manifest: BuiltBlob,
  type: string,
): Promise<void> {
  const [host, ...path] = repository.split('/')
  const url = `http://${host}/v2/${path.join('/')}/manifests/${tag}`
  const { status } = await fetch(url, {
    method: 'PUT',
    body: new Uint8Array(manifest.bytes),
    headers: { 'content-type': type },
  })
  assert.equal(status, 201)
}

/** Uploads a blob. */
export async function putBlob(host: string, repository: string, blob: BuiltBlob): Promise<void> {
  const started = await fetch(`http://${host}/v2/${repository}/blobs/uploads/`, { method: 'POST' })
  const url = new URL(started.headers.get('location') ?? '')
  url.searchParams.set('digest', blob.digest)
  const { status } = await fetch(url, { method: 'PUT', body: new Uint8Array(blob.bytes) })
  assert.equal(status, 201)
}

/** Uploads signatures of an image or an artifact. */
export async function putSignatures(
  host: string,
  repository: string,
  digest: string,
  signatures: readonly ReturnType<typeof signSimple>[],
): Promise<void> {
  const { manifest, blobs } = simpleManifest(signatures)
  for (const blob of blobs) await putBlob(host, repository, blob)
  await putManifest(
    `${host}/${repository}`,
    `${digest.replace(':', '-')}.sig`,
    manifest,
    MEDIA_TYPES.ociManifest,
  )
}

/** Signs an image or an artifact by a key, and uploads the signature. */
export async function signIn(host: string, repository: string, digest: string, key: KeyPair): Promise<void> {
  await putSignatures(host, repository, digest, [signSimple(`${host}/${repository}`, digest, key)])
}
