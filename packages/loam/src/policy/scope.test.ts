import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { parseReference } from '../image/index.ts'
import {
  findRule,
  formatLocation,
  parseLocation,
  parsePolicy,
  type ImageLocation,
  registryLocation,
} from './index.ts'
import { FILE_TRANSPORTS } from '../image/index.ts'
import { fileLocation } from './location.ts'
import { compareScopes, fits, parseScope, type Scope } from './scope.ts'

/** The rule for a name of a registry, if one scope is rejected and all others are accepted. */
function isRejected(scope: string, name: string, defaultRegistry = 'docker.io'): boolean {
  return kindOf(
    { [scope]: 'reject' },
    'accept',
    registryLocation(parseReference(name, defaultRegistry)),
    defaultRegistry,
  )
}

function kindOf(
  scopes: Record<string, string>,
  fallback: string,
  location: ImageLocation,
  defaultRegistry = 'docker.io',
) {
  const scope = Object.fromEntries(Object.entries(scopes).map(([name, policy]) => [name, { policy }]))
  const policy = parsePolicy(
    { default: fallback, scope },
    { what: 'test', readNamed: () => Buffer.alloc(0), defaultRegistry },
  )
  return findRule(policy, location).kind === 'reject'
}

/** Scopes that contain an image: of its host and of domains above, of its repository and of prefixes. */
function scopesAround(host: string, port: string, parts: readonly string[]): Scope[] {
  const domain = host.replace(/^[^.]*\./, '')
  // On Docker Hub the name of an image of the library may be short.
  const names = parts[0] === 'library' ? [parts, parts.slice(1)] : [parts]
  const paths = names.flatMap((name) => name.map((_, index) => `/${name.slice(0, index + 1).join('/')}`))
  const texts = [
    `*.${domain}`,
    `*.${domain}${port}`,
    ...['', port].flatMap((of) =>
      ['', ...paths].flatMap((path) => [`${host}${of}${path}`, `${host}${of}${path}/`]),
    ),
  ]
  const location = registryLocation({ registry: host + port, repository: parts.join('/') })
  return texts.map(parsedScope).filter((scope) => fits(scope, location))
}

function parsedScope(text: string): Scope {
  const scope = parseScope(text, 'docker.io')
  return 'invalid' in scope ? assert.fail(`${text}: ${scope.invalid}`) : scope
}

/** Of two scopes like these, a policy may have only one. */
function sharesName(a: Scope, b: Scope): boolean {
  const namesOf = (scope: Scope) => (scope.kind === 'registry' ? scope.repositories : [])
  const alike = [a, b].map((scope) => JSON.stringify({ ...scope, repositories: [] }))
  return alike[0] === alike[1] && namesOf(a).some((name) => namesOf(b).includes(name))
}

/** Locations by which scopes around a repository differ. */
function locationsAround(parts: readonly string[]): ImageLocation[] {
  const prefixes = parts.map((_, index) => parts.slice(0, index + 1))
  const long = [...prefixes, [...parts, 'below'], ...prefixes.map((each) => [...each, 'beside']), ['other']]
  const names = long.flatMap((each) => [each, each.slice(1), ['library', ...each]])
  return names
    .filter(({ length }) => length > 0)
    .flatMap((name) =>
      ['docker.io', 'z.io', 'a.test', 'b.a.test', 'z.a.test', 'z.test'].flatMap((host) =>
        ['', ':5000', ':5001'].map((port) =>
          registryLocation({ registry: host + port, repository: name.join('/') }),
        ),
      ),
    )
}

describe('scopes of a signature policy', () => {
  test('a name is in its scope in any spelling of either', () => {
    const spellings: readonly (readonly string[])[] = [
      [
        'docker.io/library/busybox',
        'index.docker.io/library/busybox',
        'registry-1.docker.io/library/busybox',
        'Docker.io/library/busybox',
        'docker.io:443/library/busybox',
        'busybox',
        'library/busybox',
        'docker.io/busybox',
      ],
      [
        'registry.test/team/app',
        'REGISTRY.Test/team/app',
        'registry.test:443/team/app',
        'registry.test:0443/team/app',
      ],
      [
        '127.0.0.1:5000/app',
        '127.1:5000/app',
        '0x7f.1:5000/app',
        '2130706433:5000/app',
        '127.0.0.1:05000/app',
      ],
      ['[::1]:5000/app', '[0:0:0:0:0:0:0:1]:5000/app', '[::0001]:5000/app'],
      ['[::ffff:10.0.0.1]:5000/app'.replace('10.0.0.1', 'a00:1'), '10.0.0.1:5000/app'],
    ]
    for (const same of spellings) {
      for (const scope of same) {
        for (const name of same) {
          assert.ok(isRejected(scope, name), `${name} in ${scope}`)
          assert.ok(isRejected(`docker://${scope}`, `${name}:1`), `${name} in docker://${scope}`)
        }
      }
    }
    assert.ok(
      isRejected('app', 'app:1', 'mirror.test:5000'),
      'a scope without a host is in the default registry',
    )
    assert.ok(!isRejected('app', 'docker.io/library/app:1', 'mirror.test:5000'))
    assert.ok(isRejected('docker.io/library', 'busybox'))
    assert.ok(isRejected('docker.io/team', 'team/app'))
    assert.ok(isRejected('*.test', 'a.b.test:8443/app'))
    assert.ok(isRejected('registry.test', 'registry.test:8443/app'))
    assert.ok(!isRejected('registry.test:443', 'registry.test:8443/app'))
    assert.ok(!isRejected('*.test', 'test.example/app'))
  })

  test('of two scopes that contain an image, one within the other, the inner one decides', () => {
    for (const [outer, inner, name] of [
      ['docker.io/bitnami', 'docker.io/bitnami/redis', 'bitnami/redis:7'],
      ['bitnami', 'bitnami/sevenxx', 'bitnami/sevenxx/a'],
      ['bitnami', 'bitnami/', 'bitnami/x'],
      ['docker.io/library', 'app', 'app'],
    ] as const) {
      const location = registryLocation(parseReference(name))
      assert.ok(kindOf({ [outer]: 'accept', [inner]: 'reject' }, 'reject', location), name)
      assert.ok(!kindOf({ [inner]: 'accept', [outer]: 'reject' }, 'reject', location), name)
    }
    const part = fc.constantFrom('a', 'app', 'library', 'bitnami', 'n'.repeat(20), 'long-name'.repeat(200))
    let compared = 0
    fc.assert(
      fc.property(
        fc.constantFrom('docker.io', 'a.test', 'b.a.test'),
        fc.constantFrom('', ':5000'),
        fc.array(part, { minLength: 1, maxLength: 3 }),
        (host, port, parts) => {
          const location = registryLocation({ registry: host + port, repository: parts.join('/') })
          const around = locationsAround(parts)
          const scopes = scopesAround(host, port, parts).map((scope) => ({
            scope,
            contains: around.map((each) => fits(scope, each)),
          }))
          for (const inner of scopes) {
            for (const outer of scopes) {
              const isWithin = inner.contains.every((isIn, index) => !isIn || outer.contains[index] === true)
              if (!isWithin || sharesName(inner.scope, outer.scope)) continue
              if (inner.contains.every((isIn, index) => isIn === outer.contains[index])) continue
              compared += 1
              const pair = `${JSON.stringify(inner.scope)} in ${JSON.stringify(outer.scope)}`
              assert.ok(compareScopes(inner.scope, outer.scope, location) < 0, pair)
              assert.ok(compareScopes(outer.scope, inner.scope, location) > 0, pair)
            }
          }
        },
      ),
    )
    assert.ok(compared > 1000)
  })

  test('a scope that no image can be in is refused, and so are two equal scopes', () => {
    const never = [
      'debian:12',
      'busybox:latest',
      'registry.test/app:1',
      `registry.test/app@sha256:${'a'.repeat(64)}`,
      'registry.test/Team/app',
      'registry.test//app',
      'registry.test/app/*',
      '*',
      '*.test/app',
      'regist*.test',
      'https://registry.test',
      'http://registry.test/app',
      'registry.test:99999',
      'registry.test:x/app',
      ' registry.test',
      'registry.test/ app',
      'régistry.test',
      'oci',
      'docker-archive',
      'appc',
      'oci:images',
      'oci:./images',
      'oci:/srv/layout:tag',
      'docker-archive:/srv/a.tar:app:1',
      'docker-daemon:app',
      'dir:/srv',
      'docker:',
      'appc:example.com/app',
      'appc://example.com/app,version=1',
      'appc://example.com/app:1',
      'appc://Example.com/app',
    ]
    const file = { what: 'test', readNamed: () => Buffer.alloc(0), defaultRegistry: 'docker.io' }
    const parse = (...scopes: string[]) =>
      parsePolicy(
        { default: 'accept', scope: Object.fromEntries(scopes.map((name) => [name, { policy: 'reject' }])) },
        file,
      )
    for (const scope of never)
      assert.throws(
        () => parse(scope),
        (error) => isLoamError(error, 'CONFIG_INVALID'),
        scope,
      )
    for (const [a, b] of [
      ['busybox', 'docker.io/busybox'],
      ['busybox', 'library/busybox'],
      ['registry.test', 'REGISTRY.test'],
      ['oci:/srv', 'oci-archive:/srv/'],
      ['oci:/srv', 'oci:/srv/x/..'],
    ] as const)
      assert.throws(
        () => parse(a, b),
        (error) => isLoamError(error, 'CONFIG_INVALID'),
        `${a} ${b}`,
      )
    for (const scope of [
      'registry:5000/',
      'localhost:5000',
      'oci:',
      'appc:',
      'appc://example.com',
      'aci:https://a.test/x',
    ])
      assert.equal(parse(scope).rules.length, 1, scope)
  })

  test('scopes of transports and of registries never fit each other, whatever they are called', () => {
    const locations = [...FILE_TRANSPORTS.map((transport) => fileLocation(transport, '/srv/app'))]
    const appc: ImageLocation = { kind: 'appc', name: 'example.com/app' }
    for (const transport of [...FILE_TRANSPORTS, 'appc']) {
      const registry = registryLocation({ registry: `${transport}:5000`, repository: 'srv/app' })
      assert.ok(!kindOf({ [`${transport}:`]: 'reject' }, 'accept', registry), transport)
      assert.ok(kindOf({ [`docker://${transport}:5000/`]: 'reject' }, 'accept', registry), transport)
      for (const location of [...locations, appc]) {
        assert.ok(!kindOf({ [`docker://${transport}:5000/`]: 'reject' }, 'accept', location))
        const isOwn = formatLocation(location).startsWith(`${transport}:`)
        assert.equal(kindOf({ [`${transport}:`]: 'reject' }, 'accept', location), isOwn)
      }
    }
    assert.ok(!kindOf({ 'example.com/app': 'reject' }, 'accept', appc))
    assert.ok(
      !kindOf(
        { 'appc://example.com/app': 'reject' },
        'accept',
        registryLocation(parseReference('example.com/app')),
      ),
    )
    for (const [scope, path, isIn] of [
      ['/srv/good.tar', '/srv/good.tar', true],
      ['/srv/good.tar', '/srv/good.tar:evil', false],
      ['/srv/good.tar', '/srv/good.tar@evil', false],
      ['/srv/good.tar', '/srv/x/../good.tar', true],
      ['/srv', '/srv/good.tar', true],
      ['/srv/', '/srv/good.tar', true],
      ['/srv', '/srv2', false],
      ['/', '/srv', true],
    ] as const)
      assert.equal(
        kindOf({ [`oci:${scope}`]: 'reject' }, 'accept', fileLocation('oci', path)),
        isIn,
        `${path} in ${scope}`,
      )
  })

  test('an address is in the scope of its files in any spelling', () => {
    const scopes = ['https://a.test/srv/x', 'hdfs://a.test/srv/x']
    for (const [address, isIn] of [
      ['https://a.test/srv/x/1.tar', true],
      ['https://A.test:443/srv/%78/1.tar', true],
      ['https://a.test/%73rv/y/%2e%2E/x/1.tar', true],
      ['https://a.test/srv%2Fx/1.tar', false],
      ['https://a.test/srv/%2578/1.tar', false],
      ['hdfs://a.test/srv/x/1.tar', true],
      ['hdfs://A.TEST//srv/./y/../x/1.tar', true],
      ['hdfs://a.test/srv/%78/1.tar', false],
    ] as const) {
      const scope = Object.fromEntries(scopes.map((text) => [`docker-archive:${text}`, 'reject']))
      assert.equal(kindOf(scope, 'accept', fileLocation('docker-archive', address)), isIn, address)
    }
  })

  test('a source is the same after it was stored as text, and no two sources have one text', () => {
    const location = fc.oneof(
      fc
        .tuple(
          fc.constantFrom(
            'docker.io',
            'a.test',
            'a.test:5000',
            'oci:5000',
            'appc:1',
            '127.0.0.1:5000',
            '[::1]:80',
            'localhost',
          ),
          fc.constantFrom('app', 'library/app', 'a/b/c', 'srv/x'),
        )
        .map(([registry, repository]): ImageLocation => registryLocation({ registry, repository })),
      fc
        .tuple(
          fc.constantFrom(...FILE_TRANSPORTS),
          fc.constantFrom('/srv/x', '/srv/x:1', '/a@b', 'https://a.test/x', '-', 'a:5000/x'),
        )
        .map(([transport, path]): ImageLocation => fileLocation(transport, path)),
      fc.constantFrom('example.com/app', 'a').map((name): ImageLocation => ({ kind: 'appc', name })),
      fc.constant<ImageLocation>({ kind: 'unknown' }),
    )
    fc.assert(
      fc.property(location, location, (one, other) => {
        assert.deepEqual(parseLocation(formatLocation(one)), one)
        assert.equal(
          formatLocation(one) === formatLocation(other),
          JSON.stringify(one) === JSON.stringify(other),
        )
      }),
    )
  })
})
