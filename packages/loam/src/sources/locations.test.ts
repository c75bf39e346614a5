import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { formatLocation } from '../policy/index.ts'
import { mesosDockerSource } from './mesos-docker-store.ts'
import { fetchFile } from './remote-file.ts'

const never = () => assert.fail('nothing is asked for')

test("an agent's store has the path that was given and the one without symlinks", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-locations-')))
  try {
    mkdirSync(join(folder, 'store'))
    symlinkSync('store', join(folder, 'link'))
    const source = mesosDockerSource(
      join(folder, 'link'),
      { reference: 'app', layerIds: [], configDigest: undefined },
      {
        packer: { pack: never, hash: never, newPath: never },
        limits: { manifestBytes: 1, configBytes: 1 },
      },
    )
    assert.deepEqual(source.from?.().map(formatLocation), [`mesos:${folder}/link`, `mesos:${folder}/store`])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('an address of Hadoop is one file, and not a pattern of names', async () => {
  for (const address of [
    'hdfs://a/srv/*',
    'hdfs://a/sr?/x',
    'hdfs://a/[s]rv/x',
    'hdfs://a/{srv}/x',
    'hdfs://a/x#/../y',
  ])
    await assert.rejects(
      fetchFile(address, {
        files: { get: never, stream: never } as never,
        hadoop: { home: undefined, path: '/nowhere' },
        newPath: () => '/nowhere',
      }),
      (error) => isLoamError(error, 'SOURCE_NOT_FOUND'),
      address,
    )
})
