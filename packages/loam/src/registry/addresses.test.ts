import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoopback, isNearer, type Reach, reachOf, reachOfName } from './addresses.ts'

/** Returns the reach of a host as the URL parser writes it, which is the form that realms and redirects have. */
const reachOfUrl = (host: string) => reachOf(new URL(`http://${host}/`).hostname.replaceAll(/[[\]]/g, ''))

describe('the reach of an address', () => {
  const examples: Readonly<Record<Reach, readonly string[]>> = {
    loopback: [
      ...[
        '127.0.0.1',
        '127.255.255.254',
        '0.0.0.0',
        '0',
        '127.1',
        '0x7f000001',
        '2130706433',
        '017700000001',
      ],
      ...['[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]'],
      ...['[::127.0.0.1]', 'localhost', 'localhost.', 'LOCALHOST', 'a.localhost', 'a.localhost.'],
    ],
    link: [
      ...[
        '169.254.169.254',
        '0xa9fea9fe',
        '2852039166',
        '[fe80::1]',
        '[febf::1]',
        '[::ffff:169.254.169.254]',
      ],
      ...['[64:ff9b::a9fe:a9fe]', '[2002:a9fe:a9fe::1]', '[::ffff:0:169.254.169.254]', '[::a9fe:a9fe]'],
    ],
    private: [
      ...['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', '100.100.100.200'],
      ...['100.127.255.255', '192.0.0.192', '192.0.2.1', '198.18.0.1', '198.19.255.255', '198.51.100.1'],
      ...['203.0.113.9', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255', '[fc00::1]', '[fd00::5]'],
      ...['[fec0::1]', '[ff02::1]', '[::ffff:10.0.0.1]', '[64:ff9b::10.1.1.1]', '[64:ff9b:1::1]', '[100::1]'],
      ...['[2001::1]', '[2001:db8::1]', '[2002:0a00:0001::1]', '[3fff::1]'],
    ],
    public: [
      ...[
        '8.8.8.8',
        '9.255.255.255',
        '11.0.0.0',
        '172.15.0.1',
        '172.32.0.1',
        '100.63.255.255',
        '100.128.0.0',
      ],
      ...['169.253.1.1', '192.167.1.1', '198.17.1.1', '198.20.0.1', '223.255.255.255', '128.0.0.1'],
      ...['[2606:4700::1]', '[2a00::1]', '[::ffff:8.8.8.8]', '[64:ff9b::808:808]', '[2002:808:808::1]'],
      ...['[2001:4860:4860::8888]', 'example.com', 'localhost.example', 'notlocalhost', 'fe80.example'],
    ],
  }
  for (const [reach, hosts] of Object.entries(examples)) {
    test(`the reach of an address is ${reach} for its addresses in every notation that a URL takes`, () => {
      for (const host of hosts) assert.equal(reachOfUrl(host), reach, host)
    })
  }

  test('the reach of an address stays the same where a resolver adds a zone', () => {
    assert.equal(reachOf('fe80::1%eth0'), 'link')
  })

  test('the reach of an address orders this machine, its link, private networks and the rest', () => {
    assert.ok(isNearer('loopback', 'link') && isNearer('link', 'private') && isNearer('private', 'public'))
    assert.ok(!isNearer('private', 'private') && !isNearer('public', 'private'))
  })

  test('the reach of a name that is never resolved here and belongs to a private network is private', () => {
    for (const host of [
      'harbor',
      'harbor.',
      'a.internal',
      'a.b.local',
      'A.LAN.',
      'x.home.arpa',
      'y.localdomain',
    ])
      assert.equal(reachOfName(host), 'private', host)
    for (const host of ['example.com', 'example.com.', 'internal.example', '8.8.8.8'])
      assert.equal(reachOfName(host), 'public', host)
    assert.deepEqual(['localhost', '10.0.0.1', '::1'].map(reachOfName), ['loopback', 'private', 'loopback'])
  })

  test('only localhost and addresses are trusted to be loopback', () => {
    for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'])
      assert.ok(isLoopback(host), host)
    for (const host of [
      'a.localhost',
      'localhost.',
      '128.0.0.1',
      '::2',
      '127.0.0.1.example',
      '10.0.0.1',
      '127',
    ])
      assert.ok(!isLoopback(host), host)
  })
})
