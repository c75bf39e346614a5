import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ConnectOptions, connectLoam } from '../client/index.ts'
import { isLoamError } from '../errors/index.ts'
import { parseOciImageConfig, parseOciManifest } from '../image/index.ts'
import { readConfiguration, SETTING_NAMES, SETTINGS } from '../config/index.ts'
import { type LoamOptions, openLoam } from './index.ts'

test('docs/configuration.md has one item for each setting, and no other, and its default', () => {
  const text = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8')
  const items = [...text.matchAll(/^- \*\*`([a-z_]+)`\*\*/gm)].map((match) => match[1])
  assert.deepEqual(items, SETTING_NAMES)
  const rows = [...text.matchAll(/^\| `([a-z_]+)` \| (?:`([^`]*)` )?\|$/gm)].map((match) => [
    match[1],
    match[2],
  ])
  const defaults = SETTING_NAMES.map((name) => {
    const { defaultValue } = SETTINGS[name]
    if (defaultValue === undefined) return [name, undefined]
    const shown = Array.isArray(defaultValue) ? defaultValue.join(', ') : JSON.stringify(defaultValue)
    return [name, shown.replaceAll('"', '') || undefined]
  })
  assert.deepEqual(rows, defaults)
})

test("a configuration file with an unknown or invalid setting, or invalid TOML, is refused with the setting's name", () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-config-'))
  try {
    const file = join(folder, 'config.toml')
    for (const text of [
      'colour = "red"',
      'registry_tries = 0',
      'docker_stall_timeout = "soon"',
      'root = ',
      'certs_dirs = [1]',
    ]) {
      writeFileSync(file, text)
      assert.throws(
        () => readConfiguration({ file }),
        (error) => isLoamError(error, 'CONFIG_INVALID') && error.message.includes(file),
      )
    }
    assert.throws(
      () => readConfiguration({ file: join(folder, 'nothing') }),
      (error) => isLoamError(error),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('an unknown setting is refused wherever it is given, and an unknown LOAM_ variable is a warning', () => {
  const refused = (error: unknown) =>
    isLoamError(error, 'CONFIG_INVALID') && /unknown setting rooot/.test(error.message)
  const misspelt = { rooot: '/x' }
  assert.throws(() => readConfiguration({ flags: misspelt as never, file: null }), refused)
  assert.throws(() => readConfiguration({ settings: misspelt as never, file: null }), refused)
  const { warnings } = readConfiguration({
    file: null,
    env: { LOAM_ROOTT: '/x', LOAM_ROOT: '/y', LOAM_DEBUG: '1', LOAM_CURL_STALL_TIMEOUT: '1mins', ROOTT: '' },
  })
  assert.deepEqual(warnings, ['the variable LOAM_ROOTT has no effect: unknown setting'])
})

test('a program gives settings as they are in force or as text, and they are checked', () => {
  const stores = { docker: { highBytes: 2, lowBytes: 1 } }
  const collection = { headroom: 0.1, intervalMs: 5, excludedImages: [], lowWatermark: 0.9, stores }
  const { values, origins } = readConfiguration({
    file: null,
    settings: {
      root: '/srv/loam',
      connect_timeout: 1500,
      fetcher_stall_timeout: '30s',
      docker_registry: ['https://registry.example.com'],
      image_gc_config: collection,
    },
    flags: { root: '/other' },
    env: { LOAM_CONNECT_TIMEOUT: '1s' },
  })
  const { root, connect_timeout: connect, fetcher_stall_timeout: stall, docker_registry: registry } = values
  assert.deepEqual(
    { root, connect, stall, registry, gc: values.image_gc_config, origin: origins.root },
    {
      ...{ root: '/srv/loam', connect: 1500, stall: 30_000, registry: ['https://registry.example.com'] },
      ...{ gc: collection, origin: 'settings' },
    },
  )
  const invalid = (error: unknown) =>
    isLoamError(error, 'CONFIG_INVALID') && /\(settings\)/.test(error.message)
  assert.throws(() => readConfiguration({ file: null, settings: { connect_timeout: -1 } }), invalid)
  // In a file a number of milliseconds could be taken for one of seconds.
  assert.throws(() => readConfiguration({ file: null, flags: { connect_timeout: 1500 } }), isLoamError)
})

test('the library says that it cannot be part of a bundle, where its files are not beside it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-bundle-'))
  try {
    // A bundler takes the code of these two files into the program, and leaves the others behind.
    for (const file of ['index.js', 'require-node.js'])
      cpSync(new URL(`../../${file}`, import.meta.url), join(folder, file))
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    await assert.rejects(import(join(folder, 'index.js')), /cannot be part of a bundle.*--external:loamfs/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('the documents of an image have their fields by name, and other fields are kept', () => {
  const descriptor = { mediaType: 'application/x', digest: 'sha256:00', size: 3 }
  const manifest = { schemaVersion: 2, config: descriptor, layers: [descriptor], annotations: null, more: 1 }
  assert.deepEqual(parseOciManifest(JSON.stringify(manifest)), manifest)
  const config = {
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: ['sha256:00'] },
    config: { Env: ['A=b'], X: 1 },
  }
  assert.deepEqual(parseOciImageConfig(config), config)
  for (const bad of [{ ...manifest, layers: 1 }, { manifests: [] }, 'no JSON', undefined])
    assert.throws(
      () => parseOciManifest(bad),
      (error) => isLoamError(error, 'DOCUMENT_INVALID'),
    )
})

test('a store is not opened with options that are none: a setting among them would be ignored', async () => {
  const wrong = { root: '/none/store' } as LoamOptions
  await assert.rejects(openLoam(wrong), {
    code: 'USAGE',
    message: 'call openLoam: root is not an option',
    hint: 'It is a setting: openLoam({ settings: { root: … } })',
  })
  await assert.rejects(openLoam({ setings: {} } as LoamOptions), { hint: 'Did you mean settings?' })
  await assert.rejects(connectLoam({ root: '/none' } as ConnectOptions), {
    code: 'USAGE',
    message: 'call connectLoam: root is not an option',
  })
})
