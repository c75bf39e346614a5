// Registries by the command: login, tags, looks at images and copies of them. With Debian's docker-registry, which asks for a password.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { buildImage, buildTar, type BuiltBlob, type BuiltImage } from '../../src/testing/index.ts'
import { DebianRegistry, must, ok, World } from '../support/world.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const AUTHORIZATION = `Basic ${Buffer.from('ann:se:cret').toString('base64')}`

const imageFor = (architecture: string): BuiltImage =>
  buildImage({
    tars: [buildTar([{ name: 'file', data: architecture.repeat(1000) }])],
    platform: { os: 'linux', architecture },
    config: { Env: ['A=1'], Labels: { of: architecture } },
  })
const blob = (value: object): BuiltBlob => {
  const bytes = Buffer.from(JSON.stringify(value))
  return { digest: digestOf(bytes), bytes }
}
const [amd64, arm64] = [imageFor('amd64'), imageFor('arm64')]
const index = blob({
  schemaVersion: 2,
  mediaType: INDEX,
  manifests: [amd64, arm64].map(({ manifest, mediaType }, at) => ({
    mediaType,
    digest: manifest.digest,
    size: manifest.bytes.length,
    platform: { os: 'linux', architecture: ['amd64', 'arm64'][at] },
  })),
})
const payload = blob({ critical: {} })
const signature = blob({
  schemaVersion: 2,
  mediaType: MANIFEST,
  config: {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    digest: payload.digest,
    size: payload.bytes.length,
  },
  layers: [
    {
      mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
      digest: payload.digest,
      size: payload.bytes.length,
    },
  ],
})

async function upload(host: string, repository: string): Promise<void> {
  const base = `http://${host}/v2/${repository}`
  const send = async (
    url: string | URL,
    method: string,
    body?: Buffer,
    type = 'application/octet-stream',
  ) => {
    const answer = await fetch(url, {
      method,
      headers: { authorization: AUTHORIZATION, 'content-type': type },
      ...(body === undefined ? {} : { body: Buffer.from(body) }),
    })
    assert.ok(answer.ok, await answer.text())
    return answer
  }
  for (const { digest, bytes } of [amd64.config, arm64.config, ...amd64.layers, ...arm64.layers, payload]) {
    const begun = await send(`${base}/blobs/uploads/`, 'POST')
    const url = new URL(begun.headers.get('location') ?? '', `http://${host}`)
    url.searchParams.set('digest', digest)
    await send(url, 'PUT', bytes)
  }
  const manifests: [string, BuiltBlob, string][] = [
    ['1-amd64', amd64.manifest, MANIFEST],
    ['1-arm64', arm64.manifest, MANIFEST],
    ['1', index, INDEX],
    [`${index.digest.replace(':', '-')}.sig`, signature, MANIFEST],
  ]
  for (const [tag, { bytes }, type] of manifests) await send(`${base}/manifests/${tag}`, 'PUT', bytes, type)
}

describe('registries by the command', () => {
  let world: World
  let registry: DebianRegistry
  let repository: string
  const env = () => ({ HOME: world.folder, DOCKER_CONFIG: '', XDG_RUNTIME_DIR: world.path('run') })
  const loam = (...args: readonly string[]) => world.loamWith(env(), ...args)

  before(async () => {
    world = new World()
    const htpasswd = world.path('htpasswd')
    writeFileSync(htpasswd, must('htpasswd', '-Bbn', 'ann', 'se:cret'))
    registry = await DebianRegistry.start({ rest: { auth: { htpasswd: { realm: 'test', path: htpasswd } } } })
    repository = `${registry.host}/team/app`
    await upload(registry.host, 'team/app')
    const login = ['login', '-u', 'ann', '--password-stdin', registry.host]
    const refused = world.loamProcess({ env: env(), input: 'wrong\n' }, ...login)
    assert.match(refused.stderr, /refused user ann with this password. Nothing was stored/)
    ok(world.loamProcess({ env: env(), input: 'se:cret\n' }, ...login))
  })
  after(() => {
    registry[Symbol.dispose]()
    world[Symbol.dispose]()
  })

  test('a login is verified before it is stored, and skopeo finds it', () => {
    const authfile = world.path('.docker', 'config.json')
    const listed = must(
      'skopeo',
      'list-tags',
      '--authfile',
      authfile,
      '--tls-verify=false',
      `docker://${repository}`,
    )
    assert.match(listed, /1-arm64/)
    assert.equal(ok(loam('login', '--get-login', registry.host)).stdout, 'ann\n')
  })

  test('the tags of a repository are listed, and a tag that does not exist is answered with them', () => {
    const tags = ok(loam('tags', repository)).stdout.trim().split('\n')
    assert.deepEqual(
      new Set(tags.filter((tag) => !tag.endsWith('.sig'))),
      new Set(['1', '1-amd64', '1-arm64']),
    )
    assert.match(
      loam('pull', `${repository}:2`).stderr,
      /hint: The repository has the tags 1-arm64, 1-amd64, 1\./,
    )
    assert.match(loam('pull', `${registry.host}/team/ap:1`).stderr, /has no repository team\/ap\./)
    assert.match(loam('tags', `${registry.host}/team/ap`).stderr, /has no repository team\/ap\./)
  })

  test('an image in its registry is inspected without pulling it', () => {
    const found = JSON.parse(
      ok(loam('inspect', '--remote', '--platform', 'linux/arm64', `${repository}:1`)).stdout,
    )
    assert.deepEqual(
      [found.digest, found.image.digest, found.platforms.length, found.image.config.config.Labels],
      [index.digest, arm64.manifest.digest, 2, { of: 'arm64' }],
    )
    assert.deepEqual(
      found.referrers.map(({ kind, digest }: { kind: string; digest: string }) => [kind, digest]),
      [['signature', signature.digest]],
    )
    assert.equal(ok(loam('inspect', '--raw', `${repository}:1`)).stdout, index.bytes.toString())
    const template = '{{.Digest}} {{.Env}} {{.Platforms}}'
    assert.equal(
      ok(loam('inspect', '--remote', '-f', template, `${repository}:1`)).stdout,
      `${index.digest} [A=1] [linux/amd64 linux/arm64]\n`,
    )
    assert.match(loam('inspect', `${repository}:1`).stderr, /`loam inspect --remote/)
    assert.deepEqual(JSON.parse(ok(loam('--json', 'images')).stdout), [])
  })

  test('several images are pulled, also where one of them cannot be', () => {
    const pulled = loam('pull', `${repository}:1-amd64`, `${repository}:none`, `${repository}:1`)
    assert.equal(pulled.status, 1)
    assert.equal(pulled.stdout, `${amd64.manifest.digest}\n${index.digest}\n`)
    assert.match(pulled.stderr, /manifest .*:none/)
  })

  test('an image is copied to another repository with all platforms and its signature, and keeps its digest', () => {
    const copy = `${registry.host}/other/app`
    const copied = ok(loam('copy', '--referrers', `${repository}:1`, `${copy}:new`))
    assert.equal(copied.stdout, `${index.digest}\n`)
    assert.match(copied.stderr, /mounted from another repository/)
    assert.equal(ok(loam('inspect', '--raw', `${copy}:new`)).stdout, index.bytes.toString())
    const kinds = ok(loam('inspect', '--remote', '-f', '{{range .referrers}}{{.kind}}{{end}}', `${copy}:new`))
    assert.equal(kinds.stdout, 'signature\n')
    const one = ok(loam('copy', '--platform', 'linux/arm64', `${repository}:1`, `${copy}:arm`))
    assert.equal(one.stdout, `${arm64.manifest.digest}\n`)
    const pinned = loam('--json', 'copy', `${repository}:1`, `${copy}@${amd64.manifest.digest}`)
    assert.equal(JSON.parse(pinned.stderr).error.code, 'DIGEST_MISMATCH')
  })

  test('a copy leaves the signatures that the destination has of its own, and says so', () => {
    const copy = `${registry.host}/signed/app`
    const tag = `${index.digest.replace(':', '-')}.sig`
    ok(loam('copy', `${repository}:1-arm64`, `${copy}:${tag}`))
    const kept = ok(loam('copy', '--referrers', `${repository}:1`, `${copy}:1`))
    assert.match(kept.stderr, new RegExp(`kept the signature that .* has under ${tag}`))
    assert.equal(ok(loam('inspect', '--raw', `${copy}:${tag}`)).stdout, arm64.manifest.bytes.toString())
    ok(loam('copy', '--referrers', '--force', `${repository}:1`, `${copy}:1`))
    assert.equal(ok(loam('inspect', '--raw', `${copy}:${tag}`)).stdout, signature.bytes.toString())
  })

  test('an image is copied into layouts and archives, and from there into a registry again, unchanged', () => {
    const layout = `oci:${world.path('copy-layout')}`
    ok(loam('copy', `${repository}:1`, `${layout}:all`))
    ok(loam('copy', `${repository}:1-arm64`, `${layout}:arm`))
    const archive = `oci-archive:${world.path('copy.oci')}`
    assert.equal(ok(loam('copy', `${layout}:all`, `${archive}:all`)).stdout, `${index.digest}\n`)
    assert.equal(ok(loam('copy', archive, `${registry.host}/third/app:1`)).stdout, `${index.digest}\n`)
    const raw = must('skopeo', 'inspect', '--raw', `${layout}:arm`)
    assert.equal(digestOf(Buffer.from(raw)), arm64.manifest.digest)
    const again = loam('--json', 'copy', `${layout}:all`, archive)
    assert.equal(JSON.parse(again.stderr).error.code, 'OUTPUT_EXISTS')
    const piped = world.loamProcess({ env: env() }, 'copy', `${layout}:arm`, 'docker-archive:-:x.test/arm:1')
    assert.equal(ok(piped).stderr.includes(arm64.manifest.digest), true)
  })

  test('images are saved to one file that skopeo reads, and are loaded under their names', () => {
    using other = new World()
    ok(loam('pull', `${repository}:1-amd64`))
    ok(loam('tag', `${repository}:1-amd64`, 'x.test/own:1'))
    const file = world.path('saved.tar')
    ok(loam('save', '-o', file, `${repository}:1-amd64`, 'x.test/own:1'))
    const config = must('skopeo', 'inspect', '--config', '--raw', `docker-archive:${file}:x.test/own:1`)
    assert.equal(digestOf(Buffer.from(config)), amd64.config.digest)
    const loaded = ok(other.loam('load', '-i', file)).stdout
    assert.equal(loaded, `Loaded image: ${repository}:1-amd64\nLoaded image: x.test/own:1\n`)
    const names = JSON.parse(ok(other.loam('--json', 'images')).stdout)[0].names
    assert.deepEqual(new Set(names), new Set([`${repository}:1-amd64`, 'x.test/own:1']))
    const podmans = world.path('podman.tar')
    must(
      'skopeo',
      'copy',
      '-q',
      `docker-archive:${file}:x.test/own:1`,
      `docker-archive:${podmans}:x.test/podman:1`,
    )
    assert.equal(ok(other.loam('load', podmans)).stdout, 'Loaded image: x.test/podman:1\n')
    // The store that has saved it has it already, from its registry.
    assert.equal(ok(loam('load', file)).stdout, loaded)
  })

  test('an archive of several images is loaded whole, also those without a name', () => {
    using other = new World()
    const image = (of: string) => ({
      of,
      layer: buildTar([{ name: of, data: of }]),
      name: (suffix: string) => `${of}${suffix}`,
    })
    const images = ['one', 'two', 'three'].map(image)
    const config = ({ layer }: { readonly layer: Buffer }) => ({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
    })
    const tags = [null, ['<none>:<none>'], ['x.test/three:1']]
    const archive = buildTar([
      ...images.flatMap((each) => [
        { name: each.name('.tar'), data: each.layer },
        { name: each.name('.json'), data: JSON.stringify(config(each)) },
      ]),
      {
        name: 'manifest.json',
        data: JSON.stringify(
          images.map((each, at) => ({
            Config: each.name('.json'),
            RepoTags: tags[at],
            Layers: [each.name('.tar')],
          })),
        ),
      },
    ])
    writeFileSync(world.path('several.tar'), archive)
    const loaded = ok(other.loam('load', '-i', world.path('several.tar')))
      .stdout.trim()
      .split('\n')
    assert.deepEqual(loaded.length, 3)
    assert.equal(loaded[2], 'Loaded image: x.test/three:1')
    for (const line of loaded.slice(0, 2)) assert.match(line, /^Loaded image: sha256:/)
    assert.equal(JSON.parse(ok(other.loam('--json', 'images', '--all')).stdout).length, 3)
  })

  test('a logout removes the login from the file, and the registry is closed again', () => {
    const authfile = world.path('.docker', 'config.json')
    assert.equal(ok(loam('logout', registry.host)).stdout, `removed from ${authfile}\n`)
    assert.match(ok(loam('logout', registry.host)).stderr, /not logged in/)
    assert.match(loam('tags', repository).stderr, /Log in to .* \(loam login/)
  })
})
