// Names of images, and their evaluation by the signature policy: through the library, with a registry in this process.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, symlinkSync, writeFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import { isLoamError, type Loam, openLoam } from '../../src/index.ts'
import {
  appcLabels,
  buildAci,
  buildDockerArchive,
  buildImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'

const PIN = `sha256:${'a'.repeat(64)}`

const tarOf = (text: string) => buildTar([{ name: text, data: text }])
const imageOf = (text: string) => buildImage({ tars: [tarOf(text)] })

/** A folder with stores and files of its own, and a registry. */
class Place implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'loam-names-'))
  readonly server: RegistryServer
  readonly notes: string[] = []

  constructor(server: RegistryServer) {
    this.server = server
  }

  static async start(): Promise<Place> {
    return new Place(await RegistryServer.start())
  }

  at(name: string): string {
    return join(this.folder, name)
  }

  archive(name: string, text: string, tags: readonly string[]): string {
    writeFileSync(this.at(name), buildDockerArchive(imageOf(text), [tarOf(text)], [...tags]))
    return this.at(name)
  }

  layout(name: string, text: string): string {
    writeOciLayout(this.at(name), { sample: imageOf(text) })
    return this.at(name)
  }

  async open(policy?: string, flags: Readonly<Record<string, unknown>> = {}): Promise<Loam> {
    if (policy !== undefined) writeFileSync(this.at('policy.toml'), policy)
    return openLoam({
      flags: {
        root: this.at('store'),
        state: this.at('state'),
        registry_tries: 1,
        ...(policy === undefined ? {} : { signature_policy: this.at('policy.toml') }),
        ...flags,
      },
      env: { PATH: process.env['PATH'] },
      file: null,
    })
  }

  readonly onEvent = (event: { readonly kind: string; readonly text?: string }): void => {
    if (event.kind === 'note') this.notes.push(event.text ?? '')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
    // Mounts that a failed test has left must not hide why it failed.
    spawnSync('sh', ['-c', `grep -o '${this.folder}[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l`])
    rmSync(this.folder, { recursive: true })
  }
}

async function fails(act: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(act, (error) => {
    assert.ok(isLoamError(error), String(error))
    assert.equal(error.code, code, error.message)
    return true
  })
}

/** Names of files in the image that a name refers to here. */
async function filesOf(loam: Loam, name: string): Promise<string[]> {
  const { containerId, rootfsPath } = await loam.provision(name, { backend: 'copy' })
  const files = readdirSync(rootfsPath)
  await loam.destroy(containerId)
  return files
}

const namesOf = async (loam: Loam): Promise<string[]> =>
  (await loam.images.list()).flatMap(({ names }) => names)

describe('names of images that come in', () => {
  test('a name with a digest is never given to an image with another one, whichever way it comes in', async () => {
    await using place = await Place.start()
    const { host } = place.server
    await using loam = await place.open()
    const pinned = [`${host}/app@${PIN}`, `${host}/app:1@${PIN}`, `app@${PIN}`]
    const archive = place.archive('evil.tar', 'evil', [...pinned, 'fine:1'])
    await loam.pull(`docker-archive:${archive}`, { onEvent: place.onEvent })
    assert.equal(place.notes.length, 3)
    assert.deepEqual(await namesOf(loam), [`docker-archive:${archive}`, 'docker.io/library/fine:1'])
    for (const name of pinned.slice(0, 2)) {
      await fails(loam.provision(name), 'IMAGE_NOT_FOUND')
      await fails(loam.images.put(archive, name), 'DIGEST_MISMATCH')
      await fails(loam.images.put(archive, name, { replace: true }), 'DIGEST_MISMATCH')
      await fails(loam.push('fine:1', { to: name }), 'DIGEST_MISMATCH')
    }
    const { containerId } = await loam.provision('fine:1')
    await fails(loam.images.commit(containerId, `x.test/app@${PIN}`), 'DIGEST_MISMATCH')
    await loam.destroy(containerId)
    await fails(loam.images.put(place.layout('layout', 'evil'), `x.test/app@${PIN}`), 'DIGEST_MISMATCH')
    const { digest } = imageOf('evil').manifest
    await loam.images.put(place.layout('layout', 'evil'), `x.test/app@${digest}`)
    assert.deepEqual(await filesOf(loam, `x.test/app@${digest}`), ['evil'])
  })

  test('a name that only an archive gave is not requested when the store is repaired', async () => {
    await using place = await Place.start()
    await using loam = await place.open()
    const archive = place.archive('image.tar', 'file', [`${place.server.host}/not/asked:1`])
    await loam.pull(`docker-archive:${archive}`)
    const folder = place.at('store/layers')
    for (const layer of readdirSync(folder)) rmSync(join(folder, layer, 'layer.tar'))
    const { problems } = await loam.store.fsck({ repair: true })
    // The archive has it, and was named by a user.
    assert.ok(problems.length > 0 && problems.every(({ repaired }) => repaired !== undefined))
    for (const layer of readdirSync(folder)) rmSync(join(folder, layer, 'layer.tar'))
    rmSync(archive)
    const again = await loam.store.fsck({ repair: true })
    assert.ok(again.problems.some(({ repaired }) => repaired === undefined))
    assert.deepEqual(place.server.requests, [])
  })

  test('a row of an older store that gives a pinned name to another image is ignored', async () => {
    await using place = await Place.start()
    const name = `${place.server.host}/app@${PIN}`
    const archive = place.archive('evil.tar', 'evil', ['evil:1'])
    {
      await using loam = await place.open()
      await loam.pull(`docker-archive:${archive}`)
    }
    {
      using database = new DatabaseSync(place.at('store/metadata.db'))
      database.exec(`UPDATE names SET reference = '${name}' WHERE reference LIKE '%evil:1'`)
      database.exec(`UPDATE name_origins SET reference = '${name}' WHERE reference LIKE '%evil:1'`)
    }
    await using loam = await place.open()
    assert.deepEqual(await namesOf(loam), [`docker-archive:${archive}`])
    await fails(loam.provision(name), 'IMAGE_NOT_FOUND')
    await fails(loam.pull(name), 'IMAGE_NOT_FOUND')
    await assert.rejects(loam.images.inspect(name), (error) => isLoamError(error, 'IMAGE_NOT_FOUND'))
  })

  test('an archive takes no name from an image of a registry, on any platform, unless it is forced to', async () => {
    await using place = await Place.start()
    const name = `${place.server.host}/app:1`
    place.server.addImage('app', '1', imageOf('good'))
    await using loam = await place.open()
    await loam.pull(name)
    const other = buildImage({
      tars: [tarOf('evil')],
      platform: { os: 'linux', architecture: process.arch === 'arm64' ? 'amd64' : 'arm64' },
    })
    writeFileSync(place.at('other.tar'), buildDockerArchive(other, [tarOf('evil')], [name]))
    for (const archive of [place.archive('evil.tar', 'evil', [name]), place.at('other.tar')]) {
      place.notes.length = 0
      await loam.pull(`docker-archive:${archive}`, { onEvent: place.onEvent })
      assert.ok(
        place.notes.some((text) => text.includes(`${name} keeps naming`)),
        place.notes.join(),
      )
      assert.deepEqual(await filesOf(loam, name), ['good'])
    }
    const evil = place.at('evil.tar')
    await fails(loam.images.put(evil, name), 'NAME_TAKEN')
    const { containerId } = await loam.provision(`docker-archive:${evil}`, { backend: 'overlay' })
    await fails(loam.images.commit(containerId, name), 'NAME_TAKEN')
    await loam.destroy(containerId)
    assert.deepEqual(await filesOf(loam, name), ['good'])
    await loam.images.put(evil, name, { replace: true })
    assert.deepEqual(await filesOf(loam, name), ['evil'])
    await loam.pull(name)
    assert.deepEqual(await filesOf(loam, name), ['good'])
    await loam.images.put(evil, 'mine:1')
    await loam.pull(`docker-archive:${place.archive('third.tar', 'third', ['mine:1'])}`)
    assert.deepEqual(await filesOf(loam, 'mine:1'), ['evil'], 'a name that a user gave stays')
  })

  test('a tag is one more name of an image, takes no name from an image of a registry, and no digest of another', async () => {
    await using place = await Place.start()
    const { host } = place.server
    const name = `${host}/app:1`
    place.server.addImage('app', '1', imageOf('good'))
    await using loam = await place.open()
    const { digest } = await loam.pull(name)
    const evil = `docker-archive:${place.archive('evil.tar', 'evil', ['alias:1'])}`
    const { digest: evilDigest } = await loam.pull(evil)
    for (const text of [evil, evilDigest, 'alias:1']) await fails(loam.images.tag(text, name), 'NAME_TAKEN')
    for (const pinned of [`${host}/app@${PIN}`, `${host}/app:2@${digest}`]) {
      await fails(loam.images.tag(evil, pinned), 'DIGEST_MISMATCH')
      await fails(loam.images.tag(evil, pinned, { replace: true }), 'DIGEST_MISMATCH')
    }
    for (const other of ['appc://example.com/app:1', `oci:${place.at('layout')}`])
      await fails(loam.images.tag(evil, other), 'USAGE')
    await fails(loam.images.tag('missing:1', 'mine:1'), 'IMAGE_NOT_FOUND')
    assert.deepEqual(await filesOf(loam, name), ['good'])
    place.server.requests.length = 0
    const tagged = await loam.images.tag(name, 'mine:1')
    assert.deepEqual([tagged.name, tagged.digest], ['docker.io/library/mine:1', digest])
    await loam.images.tag(digest.slice(7, 19), `${host}/app:2@${digest}`)
    assert.deepEqual(place.server.requests, [])
    assert.deepEqual(await filesOf(loam, 'mine:1'), ['good'])
    await loam.images.tag(evil, 'mine:1')
    assert.deepEqual(await filesOf(loam, 'mine:1'), ['evil'], 'a name that a user gave moves')
    await loam.images.tag(evil, name, { replace: true })
    assert.deepEqual(await filesOf(loam, name), ['evil'])
    await fails(loam.images.untag('missing:1'), 'IMAGE_NOT_FOUND')
    const untagged = await loam.images.untag('mine:1')
    assert.deepEqual(untagged, { name: 'docker.io/library/mine:1', images: [evilDigest] })
    for (const last of [`${host}/app:2@${digest}`]) await loam.images.untag(last)
    const found = (await loam.images.list()).find((image) => image.digest === digest)
    assert.deepEqual(found?.names, [], 'the image stays')
    await loam.images.tag(digest, 'again:1')
    assert.deepEqual(await filesOf(loam, 'again:1'), ['good'])
  })

  test('an ACI is not a dependency of others by the name that it claims', async () => {
    await using place = await Place.start()
    const labels = appcLabels({ version: '1', os: 'linux', arch: 'amd64' })
    const aci = (name: string, text: string, more: object = {}) =>
      buildAci({ manifest: { name, labels, ...more }, entries: [{ name: text, data: text }] }).tar
    mkdirSync(place.at('acis/example.com'), { recursive: true })
    const dependencies = [{ imageName: 'example.com/base', labels: appcLabels({ version: '1' }) }]
    writeFileSync(
      place.at('acis/example.com/top-1-linux-amd64.aci'),
      aci('example.com/top', 'top', { dependencies }),
    )
    writeFileSync(place.at('evil.aci'), aci('example.com/base', 'evil'))
    await using loam = await place.open(undefined, {
      appc_simple_discovery_uri_prefix: `${place.at('acis')}/`,
    })
    await loam.pull(`aci:${place.at('evil.aci')}`)
    const platform = { os: 'linux', architecture: 'amd64' }
    await fails(loam.pull('appc://example.com/top:1', { platform }), 'SOURCE_NOT_FOUND')
    writeFileSync(place.at('acis/example.com/base-1-linux-amd64.aci'), aci('example.com/base', 'good'))
    await loam.pull('appc://example.com/top:1', { platform })
    assert.deepEqual((await filesOf(loam, 'appc://example.com/top:1')).toSorted(), ['good', 'top'])
  })

  test('an ACI is not a dependency of others by the dependencies of an image from another location', async () => {
    await using place = await Place.start()
    const labels = appcLabels({ version: '1', os: 'linux', arch: 'amd64' })
    const aci = (name: string, text: string, more: object = {}) =>
      buildAci({ manifest: { name, labels, ...more }, entries: [{ name: text, data: text }] })
    const base = { imageName: 'example.com/base', labels: appcLabels({ version: '1' }) }
    const evil = aci('example.com/base', 'evil')
    writeFileSync(place.at('evil.aci'), evil.tar)
    for (const [host, dependency] of [
      ['evil.test', { ...base, imageID: evil.id }],
      ['example.com', base],
    ] as const) {
      mkdirSync(place.at(`acis/${host}`), { recursive: true })
      const { tar } = aci(`${host}/top`, 'top', { dependencies: [dependency] })
      writeFileSync(place.at(`acis/${host}/top-1-linux-amd64.aci`), tar)
    }
    const appc_simple_discovery_uri_prefix = `${place.at('acis')}/`
    await using loam = await place.open(undefined, { appc_simple_discovery_uri_prefix })
    const platform = { os: 'linux', architecture: 'amd64' }
    await loam.pull(`aci:${place.at('evil.aci')}`)
    await loam.pull('appc://evil.test/top:1', { platform })
    await fails(loam.pull('appc://example.com/top:1', { platform }), 'SOURCE_NOT_FOUND')
  })

  test('a label with the name of the image id gives no name', async () => {
    await using place = await Place.start()
    const id = `sha512-${'1'.repeat(128)}`
    const labels = appcLabels({ version: '1', os: 'linux', arch: 'amd64', id })
    const { tar } = buildAci({ manifest: { name: 'example.com/app', labels }, entries: [] })
    writeFileSync(place.at('evil.aci'), tar)
    await using loam = await place.open(undefined, { appc_simple_discovery_uri_prefix: '/nowhere' })
    await loam.pull(`aci:${place.at('evil.aci')}`)
    assert.deepEqual(await namesOf(loam), [`aci:${place.at('evil.aci')}`])
    await fails(loam.provision(`appc://example.com/app,id=${id}`), 'SOURCE_NOT_FOUND')
  })

  test("an id in an agent's directory finds the image, and is not kept as its name", async () => {
    await using place = await Place.start()
    const id = `sha512-${'1'.repeat(128)}`
    const image = place.at(`mesos/images/${id}`)
    mkdirSync(join(image, 'rootfs'), { recursive: true })
    writeFileSync(join(image, 'rootfs/left'), '')
    const labels = appcLabels({ version: '1', os: 'linux', arch: 'amd64' })
    writeFileSync(
      join(image, 'manifest'),
      JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.6.1', name: 'example.com/app', labels }),
    )
    const flags = { appc_store_dir: place.at('mesos'), appc_simple_discovery_uri_prefix: '/nowhere' }
    const name = `appc://example.com/app,id=${id}`
    const platform = { os: 'linux', architecture: 'amd64' }
    {
      await using loam = await place.open(undefined, flags)
      await loam.pull(name, { platform, onEvent: place.onEvent })
      assert.ok(
        place.notes.some((text) => /is not kept as a name/.test(text)),
        place.notes.join(),
      )
      assert.ok(!(await namesOf(loam)).some((known) => known.includes('id=')), (await namesOf(loam)).join())
      await loam.images.importMesos({ workDir: place.at('none') })
      assert.ok(!(await namesOf(loam)).some((known) => known.includes('id=')), (await namesOf(loam)).join())
    }
    await using loam = await place.open('default = "digest-only"\n', flags)
    await fails(loam.provision(name, { platform }), 'POLICY_REFUSED')
  })
})

describe('a signature policy', () => {
  const REFUSED = 'POLICY_REFUSED'
  const accept = (...scopes: string[]): string =>
    `default = "reject"\n${scopes.map((scope) => `[scope."${scope}"]\npolicy = "accept"\n`).join('')}`

  /** A way by which content is stored under a name. */
  interface Way {
    readonly name: string
    /** Location that has to be accepted in addition to the name. */
    readonly sources: readonly string[]
    readonly flags?: Readonly<Record<string, unknown>>
    readonly bring: (loam: Loam) => Promise<unknown>
  }

  async function waysOf(place: Place): Promise<Record<string, Way>> {
    const { host } = place.server
    place.server.addImage('base', '1', imageOf('base'))
    mkdirSync(place.at('saved'))
    place.archive('saved/app:1.tar', 'x', [])
    const archive = place.archive('a.tar', 'x', ['alias:1'])
    symlinkSync(archive, place.at('link.tar'))
    const layout = place.layout('layout', 'x')
    const real = `docker-archive:${archive}`
    return {
      'put of an archive': {
        name: `${host}/a:1`,
        sources: ['docker-archive:'],
        bring: async (loam) => loam.images.put(archive, `${host}/a:1`),
      },
      'put of a layout': {
        name: `${host}/b:1`,
        sources: [`oci:${layout}`],
        bring: async (loam) => loam.images.put(layout, `${host}/b:1`),
      },
      'put of a link to an archive': {
        name: `${host}/c:1`,
        sources: [real, `docker-archive:${place.at('link.tar')}`],
        bring: async (loam) => loam.images.put(place.at('link.tar'), `${host}/c:1`),
      },
      'a name that an archive gives itself': {
        name: 'alias:1',
        sources: [real],
        bring: async (loam) => loam.pull(real),
      },
      'a tag of the image of an archive': {
        name: `${host}/e:1`,
        sources: [real],
        bring: async (loam) => {
          await loam.pull(real)
          await loam.images.tag(real, `${host}/e:1`)
        },
      },
      'a folder of archives in the place of a registry': {
        name: 'app:1',
        sources: [`docker-archive:${place.at('saved')}`],
        flags: { docker_registry: [place.at('saved')] },
        bring: async (loam) => loam.pull('app:1'),
      },
      'a container that was committed': {
        name: `${host}/d:1`,
        sources: ['commit:', `${host}/base`],
        bring: async (loam) => {
          const { containerId } = await loam.provision(`${host}/base:1`, { backend: 'overlay' })
          try {
            await loam.images.commit(containerId, `${host}/d:1`)
          } finally {
            await loam.destroy(containerId)
          }
        },
      },
    }
  }

  test('a policy evaluates content by its source and its name, whichever way it comes in, and each has to allow it', async () => {
    await using place = await Place.start()
    for (const [what, way] of Object.entries(await waysOf(place))) {
      await test(what, async () => {
        const { name, sources, flags = {} } = way
        const scope = name.includes('/')
          ? name.replace(/:1$/, '')
          : `docker.io/library/${name.replace(/:1$/, '')}`
        const lacking = [
          ...sources.map((left) => [scope, ...sources.filter((source) => source !== left)]),
          ['docker.io/never', ...sources],
        ]
        const own = { ...flags, root: place.at(`store ${what}`), state: place.at(`state ${what}`) }
        // An archive claims its name without a request: it is evaluated when it is used.
        for (const scopes of what.startsWith('a name') ? [[scope]] : lacking) {
          await using loam = await place.open(accept(...scopes), own)
          await fails(way.bring(loam), REFUSED)
          assert.deepEqual(
            (await loam.images.list()).flatMap(({ names }) => names.filter((known) => known.includes(scope))),
            [],
          )
        }
        let digest = ''
        {
          await using loam = await place.open(undefined, own)
          await way.bring(loam)
          digest =
            (await loam.images.list()).find(({ names }) => names.some((known) => known.startsWith(scope)))
              ?.digest ?? ''
        }
        for (const scopes of lacking) {
          await using loam = await place.open(accept(...scopes), own)
          await fails(loam.provision(name, { backend: 'copy' }), REFUSED)
          await fails(loam.export(name, { format: 'tar', output: place.at('never') }), REFUSED)
          await fails(loam.push(name, { to: `${place.server.host}/laundered:1` }), REFUSED)
          if (!what.startsWith('a name')) await fails(loam.provision(digest, { backend: 'copy' }), REFUSED)
        }
        await using loam = await place.open(accept(scope, ...sources), own)
        for (const text of [name, digest]) {
          const { containerId } = await loam.provision(text, { backend: 'copy' })
          await loam.destroy(containerId)
        }
        await way.bring(loam)
      })
    }
  })

  test('an image that may not be used gets no name that may be used, by any way', async () => {
    await using place = await Place.start()
    const archive = place.archive('a.tar', 'x', ['alias:1'])
    const names = [`docker-archive:${archive}`, 'alias:1', 'first.test/a:1']
    let digest = ''
    {
      await using loam = await place.open()
      digest = (await loam.pull(`docker-archive:${archive}`)).digest
      await loam.images.put(archive, 'first.test/a:1')
    }
    const tagAll = async (policy: string, code: string | undefined): Promise<void> => {
      await using loam = await place.open(policy)
      for (const text of [...names, digest]) {
        const tagging = loam.images.tag(text, 'second.test/a:1')
        if (code === undefined) await tagging
        else await fails(tagging, code)
      }
    }
    await tagAll(accept('second.test', 'first.test', 'docker.io'), REFUSED)
    await tagAll(accept('first.test', 'docker.io', 'docker-archive:'), REFUSED)
    await tagAll(accept('second.test', 'first.test', 'docker.io', 'docker-archive:'), undefined)
    // The decision for the first name does not count for the second.
    await using loam = await place.open(accept('second.test'))
    await fails(loam.provision('second.test/a:1', { backend: 'copy' }), REFUSED)
  })

  test('no spelling of a name bypasses a scope, and a decision for one name does not allow another', async () => {
    await using place = await Place.start()
    const { host } = place.server
    const port = host.split(':')[1] ?? ''
    place.server.addImage('team/app', '1', imageOf('x'))
    const spellings = [
      host,
      `127.1:${port}`,
      `0x7f.0.0.1:${port}`,
      `127.0.0.1:0${port}`,
      `[::ffff:127.0.0.1]:${port}`,
    ]
    await using loam = await place.open(`default = "accept"\n[scope."${host}/team"]\npolicy = "reject"\n`)
    for (const registry of spellings)
      for (const transport of ['', 'docker://'])
        await assert.rejects(
          loam.pull(`${transport}${registry}/team/app:1`),
          (error) => isLoamError(error, REFUSED) || isLoamError(error, 'REFERENCE_INVALID'),
          registry,
        )
    place.server.addImage('other', '1', imageOf('x'))
    await loam.pull(`${host}/other:1`)
    await fails(loam.provision(`${host}/team/app:1`), REFUSED)
    assert.deepEqual(await filesOf(loam, `${host}/other:1`), ['x'])
  })

  test('an image of an older store without a recorded source is requested again or refused', async () => {
    await using place = await Place.start()
    const name = `${place.server.host}/app:1`
    place.server.addImage('app', '1', imageOf('good'))
    const archive = place.archive('evil.tar', 'evil', ['gone:1'])
    {
      await using loam = await place.open()
      await loam.images.put(archive, name)
      await loam.pull(`docker-archive:${archive}`)
    }
    {
      using database = new DatabaseSync(place.at('store/metadata.db'))
      database.exec('DELETE FROM name_origins')
    }
    const digest = imageOf('evil').config.digest
    await using loam = await place.open('default = "accept"\n[scope."docker-archive:"]\npolicy = "reject"\n')
    await fails(loam.provision(digest), REFUSED)
    assert.deepEqual(await filesOf(loam, name), ['good'])
  })
})
