// The manifests for Kubernetes: their objects have the form of its API, and what they name is what loamd has.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, mkdtempDisposableSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import type { DaemonSet } from 'kubernetes-types/apps/v1.js'
import type { PersistentVolume, Pod } from 'kubernetes-types/core/v1.js'
import type { CSIDriver } from 'kubernetes-types/storage/v1.js'
import { parseAllDocuments } from 'yaml'
import { readConfiguration } from 'loamfs'
import { addServeOptions, type ServeFlags } from '../serve-flags.ts'
import { parseVolumeContent } from './volume-request.ts'

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url))
const FILES = globSync(join(ROOT, 'deploy/kubernetes/*.yaml')).toSorted()

/** The modules that have the types of the kinds. */
const TYPES: Readonly<Record<string, string>> = {
  v1: 'core/v1',
  'apps/v1': 'apps/v1',
  'storage.k8s.io/v1': 'storage/v1',
}

type Manifest = CSIDriver | DaemonSet | PersistentVolume | Pod

function manifestsIn(file: string): Manifest[] {
  const documents = parseAllDocuments(readFileSync(file, 'utf8'), { strict: true, uniqueKeys: true })
  return documents.map((document) => {
    assert.deepEqual([...('errors' in document ? document.errors : [])], [], file)
    return document.toJS() as Manifest
  })
}

function ofKind<Kind extends NonNullable<Manifest['kind']>>(
  kind: Kind,
): Extract<Manifest, { kind?: Kind }>[] {
  type Wanted = Extract<Manifest, { kind?: Kind }>
  return FILES.flatMap(manifestsIn).filter((manifest): manifest is Wanted => manifest.kind === kind)
}

test('each manifest has the fields of its kind in the API of Kubernetes, with their types, and no others', () => {
  assert.ok(FILES.length >= 5)
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-manifests-'))
  symlinkSync(join(ROOT, 'node_modules'), join(folder.path, 'node_modules'))
  const check = (
    manifests: readonly (Pick<Manifest, 'apiVersion' | 'kind'> & { readonly spec?: unknown })[],
  ) => {
    const constants = manifests.map(({ apiVersion, kind, ...rest }, index) => {
      const type = `import('kubernetes-types/${TYPES[apiVersion ?? '']}').${kind}`
      return `export const _${index}: ${type} = ${JSON.stringify({ apiVersion, kind, ...rest }, null, 1)}\n`
    })
    writeFileSync(join(folder.path, 'manifests.ts'), constants.join(''))
    const words = [
      '--noEmit',
      '--strict',
      '--module',
      'esnext',
      '--moduleResolution',
      'bundler',
      '--types',
      '',
      'manifests.ts',
    ]
    const tsc = join(ROOT, 'node_modules/.bin/tsc')
    return spawnSync(tsc, words, { cwd: folder.path, encoding: 'utf8' }).stdout
  }
  const all = FILES.flatMap(manifestsIn)
  assert.equal(check(all), '')
  const driver = ofKind('CSIDriver')[0]
  const [flag, unknown] = [{ attachRequired: 'no' }, { attached: false }]
  assert.match(check([{ ...driver, spec: { ...driver?.spec, ...flag } }]), /not assignable to type 'boolean/)
  assert.match(check([{ ...driver, spec: { ...driver?.spec, ...unknown } }]), /attached.* does not exist/)
})

test('the manifests start loamd with options that it has, register the socket that it listens on, and name its driver', () => {
  const { values } = readConfiguration({ flags: {}, env: {}, file: undefined })
  const socket = `/var/lib/kubelet/plugins/${values.csi_driver_name}/csi.sock`
  const sets = ofKind('DaemonSet')
  assert.equal(sets.length, 2)
  for (const { spec } of sets) {
    const { containers = [], volumes = [] } = spec?.template.spec ?? {}
    const names = volumes.map(({ name }) => name)
    for (const { name, command = [], args = [], volumeMounts = [] } of containers) {
      const flags = name === 'loamd' ? parseFlags(command.slice(1)) : undefined
      if (flags === undefined) assert.ok(args.includes(`--kubelet-registration-path=${socket}`))
      else assert.equal(flags.csiSocket, socket)
      for (const mount of volumeMounts) assert.ok(names.includes(mount.name), mount.name)
    }
  }
  const [driver] = ofKind('CSIDriver')
  assert.deepEqual(
    [driver?.metadata?.name, driver?.spec.volumeLifecycleModes],
    [values.csi_driver_name, ['Ephemeral', 'Persistent']],
  )
})

function parseFlags(words: readonly string[]): ServeFlags {
  return addServeOptions(new Command()).exitOverride().parse(words, { from: 'user' }).opts()
}

test('the volumes of the examples have attributes that the driver takes', () => {
  const persistent = ofKind('PersistentVolume').map(({ spec }) => spec?.csi)
  const ephemeral = ofKind('Pod').flatMap(({ spec }) => (spec?.volumes ?? []).map(({ csi }) => csi))
  const volumes = [...persistent, ...ephemeral].filter((csi) => csi !== undefined)
  assert.equal(volumes.length, 3)
  for (const { driver, volumeAttributes = {} } of volumes) {
    assert.equal(driver, 'csi.loam')
    assert.ok(parseVolumeContent(volumeAttributes).image.includes(':'))
  }
})
