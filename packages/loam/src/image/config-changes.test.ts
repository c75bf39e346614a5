import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { changeRunConfig } from './index.ts'

test('the config of an image is changed by instructions of a Dockerfile, as docker and podman write them', () => {
  const config = { Env: ['PATH=/bin', 'A=1'], WorkingDir: '/srv', Labels: { a: '1' } }
  for (const [change, expected] of [
    ['CMD ["a", "b c"]', { Cmd: ['a', 'b c'] }],
    ['CMD=/bin/bash', { Cmd: ['/bin/sh', '-c', '/bin/bash'] }],
    ['ENTRYPOINT echo hi', { Entrypoint: ['/bin/sh', '-c', 'echo hi'] }],
    ['ENTRYPOINT []', { Entrypoint: [] }],
    ['env A=2 B="two words" C=a\\ b', { Env: ['PATH=/bin', 'A=2', 'B=two words', 'C=a b'] }],
    ['ENV A two words', { Env: ['PATH=/bin', 'A=two words'] }],
    ["LABEL b='x y'", { Labels: { a: '1', b: 'x y' } }],
    ['EXPOSE 80 53/udp', { ExposedPorts: { '80/tcp': {}, '53/udp': {} } }],
    ['VOLUME ["/data"]', { Volumes: { '/data': {} } }],
    ['VOLUME /a /b', { Volumes: { '/a': {}, '/b': {} } }],
    ['USER app:app', { User: 'app:app' }],
    ['WORKDIR sub', { WorkingDir: '/srv/sub' }],
    ['STOPSIGNAL SIGQUIT', { StopSignal: 'SIGQUIT' }],
  ] as const)
    assert.deepEqual(
      JSON.parse(JSON.stringify(changeRunConfig(config, [change]))),
      { ...config, ...expected },
      change,
    )
  for (const change of ['', 'CMD', 'FROM x', 'CMD ["a"', 'CMD [1]', 'ENV A', 'EXPOSE http', 'RUN rm -rf /'])
    assert.throws(
      () => changeRunConfig(config, [change]),
      (error) => isLoamError(error, 'USAGE'),
      change,
    )
})
