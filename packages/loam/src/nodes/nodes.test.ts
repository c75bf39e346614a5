import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { checkContainerd, type ContainerdNode } from './check-containerd.ts'
import { readContainerdSettings } from './containerd-settings.ts'
import { flagIn } from './image-service.ts'
import { parseRelease } from './release.ts'
import type { LoadedPlugin } from './running-containerd.ts'
import { containerdConfig, dockerConfig, examineContainerd, examineDocker, hasProblems } from './index.ts'

const ROOT = '/var/lib/loam'
const SOCKET = '/run/loam/snapshotter.sock'
const PLATFORM = { os: 'linux', architecture: 'amd64' }
const VERSIONS = ['1.6.20', '1.6.32', '1.7.27', '2.0.5', '2.1.9', '2.3.0'] as const

const folder = mkdtempSync(join(tmpdir(), 'loam-nodes-'))
after(() => {
  rmSync(folder, { recursive: true, force: true })
})
let files = 0
/** Writes a configuration file of its own directory, and what it imports. */
function write(text: string, imported: Readonly<Record<string, string>> = {}): string {
  const directory = join(folder, String((files += 1)))
  mkdirSync(join(directory, 'conf.d'), { recursive: true })
  for (const [name, content] of Object.entries(imported))
    writeFileSync(join(directory, 'conf.d', name), content)
  const path = join(directory, 'config.toml')
  writeFileSync(path, text.replaceAll('DIR', directory))
  return path
}

const PLUGIN: LoadedPlugin = {
  type: 'io.containerd.snapshotter.v1',
  id: 'loam',
  exports: new Map([['address', SOCKET]]),
  capabilities: [],
  hasFailed: false,
}

const IMAGE_SERVICE = {
  socket: '/run/loam/image-service.sock',
  failure: undefined,
  kubeletEndpoint: undefined,
}
const LOAM = {
  root: ROOT,
  socket: SOCKET,
  isListening: true,
  containerdSocket: '/run/containerd/containerd.sock',
  platform: PLATFORM,
}

/** Checks a file for a release whose containerd runs with it. */
function check(version: string, path: string, node: Partial<ContainerdNode> = {}) {
  return checkContainerd({
    settings: readContainerdSettings(path, parseRelease(version).major),
    version,
    running: { version, plugins: [PLUGIN] },
    loam: LOAM,
    imageService: IMAGE_SERVICE,
    isOnFileSystemOf: () => true,
    ...node,
  })
}
const problems = (...args: Parameters<typeof check>) =>
  check(...args)
    .filter(({ status }) => status !== 'right')
    .map(({ status, what }) => `${status}: ${what}`)
const configFor = (version: string) => containerdConfig({ version, root: ROOT, platform: PLATFORM })

describe('the configuration of containerd', () => {
  test('kubelet has to pull through Loam, unless containerd fetches the layers', () => {
    const credentialsOf = (imageService: Partial<typeof IMAGE_SERVICE> | { kubeletEndpoint: string }) =>
      check('2.1.9', write(configFor('2.1.9')), {
        imageService: { ...IMAGE_SERVICE, ...imageService },
      }).filter(({ what }) => what === 'credentials')
    assert.deepEqual(credentialsOf({ kubeletEndpoint: 'unix:///run/loam/image-service.sock' }), [
      {
        status: 'right',
        what: 'credentials',
        message: 'kubelet pulls through /run/loam/image-service.sock',
      },
    ])
    const [without] = credentialsOf({})
    assert.equal(without?.status, 'right')
    assert.match(without?.message ?? '', /^kubelet --image-service-endpoint=unix:/)
    const [past] = credentialsOf({ kubeletEndpoint: '' })
    assert.deepEqual(
      [past?.status, past?.write],
      ['missing', '--image-service-endpoint=unix:///run/loam/image-service.sock\n'],
    )
    const differ = containerdConfig({ version: '2.1.9', root: ROOT, platform: PLATFORM, isDiffer: true })
    const imageService = { ...IMAGE_SERVICE, kubeletEndpoint: '' }
    assert.deepEqual(problems('2.1.9', write(differ), { imageService }), [])
  })

  test('the value of a flag of kubelet follows it or is a part of it', () => {
    assert.equal(flagIn(['kubelet', '--config', '/a', '--v=2'], 'config'), '/a')
    assert.equal(flagIn(['kubelet', '--config-dir=/b', '--config=/a'], 'config'), '/a')
    assert.equal(flagIn(['kubelet'], 'config'), undefined)
  })

  test('what is written for a release is right for it', () => {
    for (const version of VERSIONS)
      assert.deepEqual(problems(version, write(configFor(version))), [], version)
  })

  test('each line that a report names makes the configuration right, for each release', () => {
    for (const version of VERSIONS) {
      const bare = check(version, write(`version = ${version.startsWith('1') ? 2 : 3}\n`))
      const missing = bare.filter(({ status }) => status !== 'right')
      assert.ok(missing.length > 1, version)
      const lines = missing.flatMap(({ write: text }) => text ?? [])
      const path = write(`version = ${version.startsWith('1') ? 2 : 3}\n${lines.join('\n')}`)
      assert.deepEqual(problems(version, path), [], version)
    }
  })

  test('the format that containerd 2 ignores is reported: a file of version 2 with the old table of CRI', () => {
    const found = check('2.1.9', write(configFor('1.6')))
    const cri = found.find(({ what }) => what === 'Kubernetes')
    assert.equal(cri?.status, 'wrong')
    assert.match(
      cri?.message ?? '',
      /ignores the snapshotter in io\.containerd\.grpc\.v1\.cri, and uses overlayfs/,
    )
    assert.deepEqual(problems('2.1.9', write(configFor('1.6'))), [
      'missing: annotations',
      'missing: capabilities',
      'missing: unpack_config',
      'wrong: Kubernetes',
    ])
    assert.ok(problems('1.6.20', write(configFor('2.1'))).includes('wrong: version'))
  })

  test('containerd 2 takes the new tables from a file of version 2', () => {
    const text = configFor('2.1').replace('version = 3', 'version = 2')
    assert.deepEqual(problems('2.1.9', write(text)), [])
  })

  test('containerd 2 takes the old table of CRI from a file of version 2 that has a table of runtimes in it', () => {
    const old = `${configFor('1.6')}[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nSystemdCgroup = true\n`
    assert.ok(!problems('2.1.9', write(old)).includes('wrong: Kubernetes'))
    assert.ok(
      problems('2.1.9', write(old.replace('version = 2', 'version = 3'))).includes('wrong: Kubernetes'),
    )
  })

  test('the snapshotter of the default runtime comes before that of all pods, and that of another runtime is noted', () => {
    const tables = [
      ['1.7.27', 'io.containerd.grpc.v1.cri'],
      ['2.1.9', 'io.containerd.cri.v1.runtime'],
    ] as const
    for (const [version, table] of tables) {
      const own = (runtime: string, snapshotter: string) =>
        `[plugins."${table}".containerd.runtimes.${runtime}]\nsnapshotter = "${snapshotter}"\n`
      const found = (text: string, release: string = version) =>
        check(release, write(`${configFor(release)}${text}`))
          .filter(({ what, status }) => what === 'Kubernetes' && status !== 'right')
          .map(({ status, message, write: lines }) => [status, message, lines])
      const lines = `[plugins."${table}".containerd.runtimes.runc]\n  snapshotter = "loam"\n`
      assert.deepEqual(found(own('runc', 'overlayfs')), [
        ['wrong', 'pods use overlayfs: their runtime runc has this snapshotter of its own', lines],
      ])
      for (const right of ['loam', '']) assert.deepEqual(found(own('runc', right)), [])
      assert.deepEqual(found(lines), [])
      const kata = own('kata', 'nydus')
      assert.deepEqual(found(kata), [['note', 'pods of the runtime kata use nydus', undefined]])
      const isDefault = `[plugins."${table}".containerd]\ndefault_runtime_name = "kata"\n`
      const withDefault = write(
        `version = ${version.startsWith('1') ? 2 : 3}\n${isDefault}${kata}${own('runc', 'overlayfs')}`,
      )
      const { runtimes } = readContainerdSettings(withDefault, parseRelease(version).major)
      assert.deepEqual(runtimes, {
        table,
        defaultName: 'kata',
        snapshotters: new Map([
          ['kata', 'nydus'],
          ['runc', 'overlayfs'],
        ]),
      })
    }
    const [, old] = tables[0]
    const ignored = `[plugins."${old}".containerd.runtimes.runc]\nsnapshotter = "overlayfs"\n`
    assert.deepEqual(problems('1.6.32', write(`${configFor('1.6.32')}${ignored}`)), [])
  })

  test('an entry for unpacking is for the platform of this machine, if containerd checks that', () => {
    const found = (platform: string, isChecked: boolean, machine = PLATFORM) => {
      const text = configFor('2.1').replace('"linux/amd64"', `"${platform}"`)
      const checked = `[plugins."io.containerd.transfer.v1.local"]\ncheck_platform_supported = ${isChecked}\n`
      return check('2.1.9', write(`${text}${checked}`), { loam: { ...LOAM, platform: machine } })
        .filter(({ what }) => what === 'unpack_config')
        .map(({ status, message }) => `${status}: ${message}`)
    }
    const right = ['right: the transfer service pulls for loam']
    for (const platform of ['linux/amd64', 'linux/x86_64', 'linux/amd64/v3', 'linux'])
      assert.deepEqual(found(platform, true), right, platform)
    assert.deepEqual(found('linux/arm64', false), right)
    assert.deepEqual(found('linux/arm64', true), [
      'wrong: the entry for loam is for linux/arm64, this machine is linux/amd64, and check_platform_supported is true',
    ])
    const arm = { os: 'linux', architecture: 'arm', variant: 'v6' }
    assert.deepEqual(found('linux/arm', true, arm), right)
    assert.match(found('linux/arm/v5', true, arm)[0] ?? '', /^wrong: .* this machine is linux\/arm\/v6/)
  })

  test('a wrong address, type or capability, and a plugin that is not loaded are reported', () => {
    const right = configFor('2.1')
    const wrong = (text: string) => problems('2.1.9', write(text))
    assert.deepEqual(wrong(right.replace(SOCKET, '/run/other.sock')), [
      'wrong: proxy plugin',
      'wrong: running',
    ])
    assert.deepEqual(wrong(right.replace('"snapshot"', '"content"')), ['wrong: proxy plugin'])
    const rebase = right.replace('["remap-ids"]', '["remap-ids", "rebase"]')
    assert.deepEqual(wrong(rebase), ['wrong: capabilities'])
    assert.deepEqual(wrong(right.replace('"remap-ids"', '')), ['missing: capabilities'])
    const none = { version: '2.1.9', plugins: [] }
    assert.deepEqual(problems('2.1.9', write(right), { running: none }), ['missing: running'])
    const stopped = {
      running: 'nothing listens there',
      loam: { ...LOAM, isListening: false },
    }
    assert.deepEqual(problems('2.1.9', write(right), stopped), ['missing: containerd', 'missing: loamd'])
  })

  test('a differ is asked before that of containerd, is the one of its snapshotter, and reads from this containerd', () => {
    const right = containerdConfig({ version: '2.1', root: ROOT, platform: PLATFORM, isDiffer: true })
    const found = (text: string, node: Partial<ContainerdNode> = {}) =>
      check('2.1.9', write(text), node)
        .filter(({ what }) => what === 'differ')
        .map(({ status, message }) => `${status}: ${message}`)
    assert.deepEqual(problems('2.1.9', write(right)), [])
    assert.match(found(right)[0] ?? '', /^right: containerd fetches layers, and loam-diff takes them/)
    const list = '["loam-diff", "walking"]'
    assert.match(
      found(right.replace(list, '["walking", "loam-diff"]'))[0] ?? '',
      /^wrong: .* asks walking before/,
    )
    assert.match(found(right.replace(`default = ${list}`, ''))[0] ?? '', /^wrong: .* asks walking before/)
    assert.match(found(right.replace(list, '["loam-diff"]'))[0] ?? '', /^wrong: walking is missing/)
    const unpack = right.replace('differ = "loam-diff"', 'differ = "walking"')
    assert.deepEqual(found(unpack), ['wrong: the transfer service unpacks the layers of loam with walking'])
    const loam = { ...LOAM, containerdSocket: '/run/other.sock' }
    assert.match(found(right, { loam })[0] ?? '', /^wrong: loamd reads layers from \/run\/other\.sock, and/)
  })

  test('mounts of EROFS are for a containerd with a mount manager', () => {
    const loam = { ...LOAM, returnsErofs: true }
    const found = (version: string) =>
      check(version, write(configFor(version)), { loam }).find(({ what }) => what === 'snapshot_mounts')
        ?.status
    assert.deepEqual([found('2.1.9'), found('2.2.0'), found('3.0.0')], ['wrong', 'right', 'right'])
  })

  test('the file system that kubelet measures has to be that of the store', () => {
    const old = { isOnFileSystemOf: () => undefined }
    const found = check('1.6.20', write(configFor('1.6.20')), old).find(({ status }) => status !== 'right')
    assert.equal(found?.run, 'ln -s /var/lib/loam /var/lib/containerd/io.containerd.snapshotter.v1.loam')
    assert.deepEqual(problems('1.6.32', write(configFor('1.6.32')), { isOnFileSystemOf: () => false }), [
      'wrong: file system',
    ])
  })

  test('CRI that is disabled needs no configuration', () => {
    const text = configFor('2.1').split('[plugins."io.containerd.cri.v1.images"]')[0] ?? ''
    const disabled = text.replace(
      'version = 3',
      'version = 3\ndisabled_plugins = ["io.containerd.cri.v1.images"]',
    )
    assert.deepEqual(problems('2.1.9', write(disabled)), ['note: Kubernetes'])
  })

  test('a version is written for or refused', () => {
    assert.throws(
      () => configFor('newest'),
      (error) => isLoamError(error, 'USAGE'),
    )
    assert.match(configFor('2.0'), /disable_snapshot_annotations = false/)
    assert.doesNotMatch(configFor('2.1'), /disable_snapshot_annotations/)
    assert.match(
      containerdConfig({ version: '2.1', name: 'a b', root: '/a "b"', platform: PLATFORM }),
      /\[proxy_plugins\."a b"\]/,
    )
  })
})

describe('files of containerd', () => {
  const CRI = '[plugins."io.containerd.grpc.v1.cri".containerd]'

  test('imports are read as each release reads them', () => {
    const main = `version = 2\nimports = ["DIR/conf.d/*.toml"]\n${CRI}\nsnapshotter = "one"\n[proxy_plugins.p]\ntype = "snapshot"\naddress = "unix:///a"\n`
    const more = {
      'b.toml': `version = 2\n${CRI}\ndefault_runtime_name = "b"\n[proxy_plugins.p]\ntype = "snapshot"\n`,
    }
    const old = readContainerdSettings(write(main, more), 1)
    // In containerd 1 an import replaces the whole section of a plugin.
    assert.deepEqual([old.cri.snapshotter, old.proxies[0]?.address], [undefined, ''])
    const images = '[plugins."io.containerd.cri.v1.images"]'
    const current = readContainerdSettings(
      write(`version = 3\nimports = ["conf.d/*.toml"]\n${images}\nsnapshotter = "one"\n`, {
        'b.toml': `version = 3\n${images}\nmax_concurrent_downloads = 9\n`,
      }),
      2,
    )
    assert.deepEqual([current.cri.snapshotter, current.files.length], ['one', 2])
    // containerd 1 resolves a relative pattern elsewhere.
    assert.equal(readContainerdSettings(write(main.replace('DIR/', ''), more), 1).cri.snapshotter, 'one')
  })

  test('files that import each other end, and one that is missing or broken is named', async () => {
    const loop = write('version = 3\nimports = ["conf.d/b.toml"]\n', {
      'b.toml': 'imports = ["../config.toml"]\n',
    })
    assert.equal(readContainerdSettings(loop, 2).files.length, 2)
    const examine = async (config: string) =>
      examineContainerd({ ...LOAM, config, socket: join(folder, 'none') })
    for (const [text, message] of [
      ['version = 3\nimports = ["/none.toml"]\n', /read \/none\.toml: it does not exist, and .* imports it/],
      ['version = [\n', /config\.toml: .*/],
    ] as const) {
      const report = await examine(write(text))
      assert.match(report.findings[0]?.message ?? '', message)
      assert.ok(hasProblems(report))
    }
    const address = `[grpc]\naddress = "${join(folder, 'none')}"\n`
    const report = await examine(write(`version = 3\n${address}`))
    assert.equal(
      report.findings[0]?.message,
      `does not answer at ${join(folder, 'none')}: no such socket. The rest is checked for 2.1`,
    )
  })
})

describe('the configuration of Docker', () => {
  test('what is written is right, and what is missing is reported', async () => {
    const examine = async (settings: object) => {
      const hosts = [`unix://${join(folder, 'none')}`]
      const { findings } = await examineDocker(write(JSON.stringify({ ...settings, hosts })))
      return findings.map(({ status, what }) => `${status}: ${what}`)
    }
    assert.deepEqual(await examine(JSON.parse(dockerConfig())), [
      'right: config',
      'right: config',
      'missing: docker',
    ])
    assert.deepEqual(await examine({}), ['missing: config', 'missing: config', 'missing: docker'])
    for (const text of ['{', '{"features": 1}']) {
      const { findings } = await examineDocker(write(text))
      assert.equal(findings[0]?.status, 'wrong')
    }
    const { findings } = await examineDocker(join(folder, 'none.json'))
    assert.match(findings[0]?.message ?? '', /none\.json: it does not exist$/)
  })
})
