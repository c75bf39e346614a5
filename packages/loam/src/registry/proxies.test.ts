import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { createProxyFinder, type ProxyOptions } from './proxies.ts'

const find = (options: Partial<ProxyOptions>, address: string) =>
  createProxyFinder({ httpProxy: '', httpsProxy: '', noProxy: '', ...options })(new URL(address))

describe('the proxy of an address', () => {
  test('the proxy of an address is that of its scheme, given with or without a scheme of its own', () => {
    const cases: readonly (readonly [value: string, address: string])[] = [
      ['http://proxy:3128', 'http://proxy:3128'],
      ['proxy:3128', 'http://proxy:3128'],
      ['  proxy  ', 'http://proxy'],
      ['127.0.0.1:8080', 'http://127.0.0.1:8080'],
      ['[fd00::1]:8080', 'http://[fd00::1]:8080'],
      ['user:secret@proxy:3128', 'http://proxy:3128'],
      ['HTTPS://Proxy', 'https://proxy'],
      ['http://proxy:3128/path?query', 'http://proxy:3128'],
    ]
    for (const [value, address] of cases) {
      assert.equal(find({ httpsProxy: value }, 'https://x.example')?.url.origin, address, value)
      assert.equal(find({ httpsProxy: value }, 'http://x.example'), undefined, value)
      assert.equal(find({ httpProxy: value }, 'http://x.example')?.url.origin, address, value)
    }
    assert.equal(find({ httpsProxy: ' ' }, 'https://x.example'), undefined)
  })

  test('the user and password of a proxy are decoded, and messages have its name alone', () => {
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
    const authorization = (value: string) => find({ httpProxy: value }, 'http://x.example')?.authorization
    assert.equal(authorization('http://field:p%40ss@proxy'), basic('field:p@ss'))
    assert.equal(authorization('field:p@ss@proxy:1'), basic('field:p@ss'))
    assert.equal(authorization('http://field:100%@proxy'), basic('field:100%'))
    assert.equal(authorization('http://field@proxy'), basic('field:'))
    assert.equal(authorization('http://proxy'), undefined)
    assert.equal(find({ httpProxy: 'u:secret@proxy:3128' }, 'http://x.example')?.name, 'proxy:3128')
  })

  test('an invalid proxy is an error, when it is needed, that names its variable and not its password', () => {
    for (const value of [
      'socks5://u:hunter22@proxy:1080',
      'socks5h://proxy',
      'ftp://proxy',
      'http://',
      'u:hunter22@:99x',
      'http://a b',
    ]) {
      assert.throws(
        () => find({ httpsProxy: value }, 'https://x.example'),
        (error) =>
          isLoamError(error, 'CONFIG_INVALID') &&
          error.message.startsWith('read HTTPS_PROXY: ') &&
          !error.message.includes('hunter22'),
        value,
      )
      assert.equal(find({ httpsProxy: value }, 'http://x.example'), undefined)
      assert.equal(find({ httpsProxy: value, noProxy: '*' }, 'https://x.example'), undefined)
    }
  })

  test('the proxy is never used for loopback, whatever NO_PROXY says', () => {
    const options = { httpProxy: 'proxy', httpsProxy: 'proxy' }
    for (const host of [
      'localhost:5000',
      'LOCALHOST',
      '127.0.0.1',
      '127.1.2.3:1',
      '[::1]:5000',
      '[::ffff:127.0.0.1]',
      '127.1',
    ])
      assert.equal(find(options, `http://${host}/`) ?? find(options, `https://${host}/`), undefined, host)
    for (const host of ['10.0.0.1', 'localhost.example', '128.0.0.1', '[::2]'])
      assert.notEqual(find(options, `http://${host}/`), undefined, host)
  })

  // Rows of httpproxy's own test (UseProxyTests), and curl's forms.
  const NO_PROXY =
    'foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, [fd00::5], 2002:db8:a::45/64, [fd01::/64], with.port:8443, Upper.Example'
  const rows: readonly (readonly [address: string, isProxied: boolean])[] = [
    ['https://barbaz.net', true],
    ['https://www.barbaz.net', false],
    ['https://foobar.com', false],
    ['https://www.foobar.com', false],
    ['https://foofoobar.com', true],
    ['https://baz.com', true],
    ['https://localhost.net', true],
    ['https://bar.barbaz.net', false],
    ['https://wildcard.io', true],
    ['https://nested.wildcard.io', false],
    ['https://awildcard.io', true],
    ['https://192.168.1.1', false],
    ['https://192.168.1.2', true],
    ['https://192.168.1.3', true],
    ['http://192.168.1.3', false],
    ['http://192.168.1.2:81', false],
    ['https://192.168.1.4', true],
    ['https://10.0.0.2', false],
    ['https://10.0.0.4', true],
    ['https://[2001:db8::52:0:1]', false],
    ['https://[2001:db8::52:0:2]', false],
    ['https://[2001:db8::52:0:2]:8443', true],
    ['https://[2001:db8::52:0:3]', true],
    ['https://[2002:db8:a::123]', false],
    ['https://[2002:db8:b::1]', true],
    ['https://[fd00::5]:5000', false],
    ['https://[fd00::6]', true],
    ['https://[fd01::9]', false],
    ['https://with.port:8443', false],
    ['https://below.with.port:8443', false],
    ['https://with.port', true],
    ['https://upper.example', false],
    ['https://UPPER.example:444', false],
  ]
  for (const [name, noProxy] of [
    ['commas and spaces', NO_PROXY],
    ['commas alone', NO_PROXY.replaceAll(' ', '')],
    ['spaces alone', NO_PROXY.replaceAll(',', '')],
  ] as const) {
    test(`the proxy is skipped for all forms of NO_PROXY, between ${name}`, () => {
      const options = { httpProxy: 'proxy', httpsProxy: 'proxy', noProxy }
      assert.deepEqual(
        rows.map(([address]) => [address, find(options, address) !== undefined]),
        rows,
      )
    })
  }

  test('the proxy is skipped for every host by a star, and for none by parts without a meaning', () => {
    assert.equal(find({ httpsProxy: 'proxy', noProxy: 'x, *' }, 'https://y.example'), undefined)
    for (const noProxy of [
      '',
      ',',
      ' , ',
      ':80',
      '10.0.0.0/99',
      '10.0.0.0/',
      '/8',
      '[]',
      '.',
      'fd00::5/129',
      '[fd00::5',
    ])
      assert.notEqual(find({ httpsProxy: 'proxy', noProxy }, 'https://y.example'), undefined, noProxy)
  })
})
