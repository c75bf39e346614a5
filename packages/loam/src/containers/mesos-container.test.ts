import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { formatImageName } from '../sources/index.ts'
import { parseImageRequest } from '../sources/image-request.ts'
import { parseMesosContainer } from './mesos-container.ts'

const image = { type: 'DOCKER', docker: { name: 'debian:12' } } as const
const parse = (container: unknown) => parseMesosContainer(JSON.stringify(container))

describe('ContainerInfo of Mesos', () => {
  test('a ContainerInfo becomes an image, image volumes and paths of this machine', () => {
    const container = {
      type: 'MESOS',
      mesos: { image },
      hostname: 'web',
      network_infos: [],
      volumes: [
        { mode: 'RO', container_path: '/data', image: { type: 'APPC', appc: { name: 'example.com/x' } } },
        { mode: 'RW', container_path: 'tools', image, host_path: null },
        { mode: 'RO', container_path: '/etc/x', host_path: '/etc//x' },
        { mode: 'RW', container_path: 'y', source: { type: 'HOST_PATH', host_path: { path: '/y' } } },
      ],
    }
    const { volumes, ...rest } = parse(container)
    assert.deepEqual(rest, {
      image: { ...image, type: 'docker' },
      hostMounts: [
        { hostPath: '/etc/x', target: '/etc/x', isReadOnly: true },
        { hostPath: '/y', target: 'y', isReadOnly: false },
      ],
      hostname: 'web',
    })
    assert.deepEqual(
      volumes.map(({ target, isReadOnly }) => [target, isReadOnly]),
      [
        ['/data', true],
        ['tools', false],
      ],
    )
    assert.deepEqual(parse({ type: 'MESOS' }), {
      image: undefined,
      volumes: [],
      hostMounts: [],
      hostname: undefined,
    })
    assert.deepEqual(parseMesosContainer({ type: 'MESOS', mesos: { image } }).image, {
      ...image,
      type: 'docker',
    })
  })

  test('a ContainerInfo may have null wherever it may leave a field out', () => {
    const nothing = { docker_volume: null, sandbox_path: null, secret: null, csi_volume: null }
    const docker = { type: 'DOCKER', docker: { name: 'x', config: null }, appc: null, cached: null }
    const labels = { labels: [{ key: 'version', value: '1' }] }
    const container = {
      type: 'MESOS',
      mesos: { image: docker },
      volumes: [
        {
          mode: 'RO',
          container_path: 'a',
          image: { type: 'APPC', appc: { name: 'a', id: null, labels: null } },
        },
        { mode: 'RO', container_path: 'b', image: { type: 'APPC', appc: { name: 'b', labels } } },
        {
          mode: 'RO',
          container_path: 'c',
          host_path: null,
          source: {
            type: 'HOST_PATH',
            host_path: { path: '/c', mount_propagation: null },
            ...nothing,
          },
        },
      ],
    }
    const { image: request, volumes, hostMounts } = parse(container)
    const read = (what: Parameters<typeof parseImageRequest>[0] | undefined) =>
      formatImageName(
        parseImageRequest(what ?? '', {
          registry: 'docker.io',
          platform: { os: 'linux', architecture: 'amd64' },
        }).name,
      )
    assert.deepEqual([request, ...volumes.map((volume) => volume.image)].map(read), [
      'docker.io/library/x:latest',
      'appc://a,arch=amd64,os=linux,version=latest',
      'appc://b,arch=amd64,os=linux,version=1',
    ])
    assert.deepEqual(hostMounts, [{ hostPath: '/c', target: 'c', isReadOnly: true }])
  })

  test('a ContainerInfo that is invalid or asks for what Loam does not support is refused with the field', () => {
    const volume = { mode: 'RO', container_path: '/data', image }
    const cases: readonly (readonly [unknown, RegExp])[] = [
      ['{', /ContainerInfo/],
      [{}, /type/],
      [{ type: 'DOCKER', docker: { image: 'x' } }, /type: is not MESOS/],
      [{ type: 'MESOS', mesos: { image: { type: 'DOCKER' } } }, /mesos\.image: it has another form than/],
      [{ type: 'MESOS', network_infos: [{ name: 'x' }] }, /network_infos: has to be set up/],
      [{ type: 'MESOS', colour: 'red' }, /colour/],
      [{ type: 'MESOS', volumes: [{ ...volume, mode: 'rw' }] }, /volumes\.0\.mode/],
      [{ type: 'MESOS', volumes: [{ ...volume, container_path: '' }] }, /volumes\.0\.container_path/],
      [{ type: 'MESOS', volumes: [volume, { ...volume, host_path: '/x' }] }, /volumes\.1: has 2 of/],
      [{ type: 'MESOS', volumes: [{ ...volume, image: null }] }, /volumes\.0: has 0 of/],
      [{ type: 'MESOS', volumes: [{ ...volume, image: null, host_path: 'x' }] }, /relative host_path/],
      [
        { type: 'MESOS', volumes: [{ ...volume, image: null, source: { type: 'SECRET' } }] },
        /volumes\.0\.source\.type/,
      ],
    ]
    for (const [container, expected] of cases)
      assert.throws(
        () => (typeof container === 'string' ? parseMesosContainer(container) : parse(container)),
        (error) => isLoamError(error, 'USAGE') && expected.test(error.message),
        JSON.stringify(container),
      )
  })
})
