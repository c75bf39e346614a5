import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  ERRORS,
  faultOfFile,
  isErrno,
  isLoamError,
  keepSecret,
  keepServerSecret,
  LoamError,
  redact,
  toLoamError,
  visible,
  visibleJson,
} from './index.ts'

test('docs/errors.md has one section for each code, with its kind, and no other', () => {
  const path = new URL('../../../../docs/errors.md', import.meta.url)
  assert.ok(existsSync(path))
  const sections = [...readFileSync(path, 'utf8').matchAll(/^### ([A-Z_]+) \(([a-z_]+)\)$/gm)].map(
    (match) => [match[1], match[2]],
  )
  assert.deepEqual(Object.fromEntries(sections), { ...ERRORS })
  assert.equal(sections.length, Object.keys(ERRORS).length)
})

test('the fault of a file is told from a cancellation, a shortage, a defect and a failure of the database', () => {
  const ofSystem = (code: string) => Object.assign(new Error(`${code}: it fails`), { code })
  assert.deepEqual(
    ['EIO', 'EISDIR', 'ELOOP', 'EACCES'].map((code) => faultOfFile(ofSystem(code))),
    ['EIO', 'EISDIR', 'ELOOP', 'EACCES'],
  )
  // It is the same after it has crossed a thread.
  const plain = toLoamError(ofSystem('EIO'), 'hash layer').toPlain()
  assert.equal(faultOfFile(LoamError.fromPlain(plain)), 'EIO')
  assert.equal(
    faultOfFile(new LoamError('LAYER_DAMAGED', 'read x: it is a directory')),
    'read x: it is a directory',
  )
  for (const error of [
    ...['EMFILE', 'ENOMEM', 'ENOSPC', 'EROFS', 'ERR_SQLITE_ERROR'].map(ofSystem),
    new TypeError('a defect'),
    new LoamError('CANCELED', 'hash layer: canceled'),
  ])
    assert.equal(faultOfFile(error), undefined, error.message)
})

test('an error keeps its cause, derives its kind, and crosses a thread', () => {
  const cause = new Error('EIO')
  const error = new LoamError('DIGEST_MISMATCH', 'verify x', { cause, hint: 'h', details: { size: 3 } })
  assert.equal(error.kind, 'data_loss')
  assert.equal(error.cause, cause)
  const plain = error.toPlain()
  assert.deepEqual(LoamError.fromPlain(structuredClone(plain)).toPlain(), plain)
  assert.deepEqual([isLoamError(error, 'DIGEST_MISMATCH'), isLoamError(error, 'SYSTEM')], [true, false])
})

test('a message contains no secrets and no control characters', () => {
  assert.equal(redact('get https://user:pw@host/path?token=abc failed'), 'get https://host/path?… failed')
  assert.equal(redact('Authorization: Bearer abc.def'), 'Authorization: Bearer …')
  assert.equal(redact('a\u001b[31mb\nc'), 'a\\x1b[31mb\\nc')
})

test('user, password and query are removed from every address in a text, also from one inside another', () => {
  for (const [text, shown] of [
    ['a https://u:p@h b', 'a https://h b'],
    ['https://u:p@q@h/a', 'https://h/a'],
    [`"https://u:p'q"r@h" 'x@y'`, `"https://h" 'x@y'`],
    ['https://proxy/https://u:p@h/a', 'https://proxy/https://h/a'],
    ['https://h/a?next=https://u:p@k/b?c "d"', 'https://h/a?… "d"'],
    ['https://h/a?b#c', 'https://h/a?…#c'],
    ['https://h/a? no', 'https://h/a? no'],
    ['"http://[::1]:80/x?y" https://u@h', '"http://[::1]:80/x?…" https://h'],
    ['no://', 'no://'],
  ] as const)
    assert.equal(redact(text), shown)
})

test('a message, a hint and details have at most 8 KiB of foreign text', () => {
  for (const long of [
    'a-'.repeat(400_000),
    '\u001b'.repeat(400_000),
    '://'.repeat(200_000),
    '\u{e0001}'.repeat(9000),
  ]) {
    const error = new LoamError('DOCUMENT_INVALID', `parse x: ${long} is there twice`, {
      hint: long,
      details: { long, size: 3 },
    })
    for (const text of [error.message, error.hint ?? '', String(error.details['long'])])
      assert.ok(text.length <= 8192, String(text.length))
    assert.match(error.message, /^parse x: .*… \(cut from \d+ characters\)$/)
    assert.equal(error.details['size'], 3)
    assert.deepEqual(LoamError.fromPlain(error.toPlain()).toPlain(), error.toPlain())
  }
})

test('a secret is removed also where a message is cut, and where the text that repeats it was cut', () => {
  const secret = `${'0123456789abcdef'.repeat(8)}END`
  keepSecret(secret)
  keepSecret('hunter22')
  for (let length = 8000; length < 8200; length += 7) {
    for (const said of [secret, 'hunter22']) {
      const shown = redact(`${'x'.repeat(length)}${said}${'y'.repeat(300)}`)
      assert.doesNotMatch(shown, /0123|hunt/, String(length))
    }
  }
  assert.equal(redact(`sent ${secret.slice(0, 70)} and ${secret}.`), 'sent … and ….')
  assert.equal(redact('hunter22hunter22 hunter2'), '…… hunter2')
})

test('a secret is removed in every encoding that a server may repeat it in', () => {
  const secret = 'p"ß w&d/+%=\\'
  keepSecret(secret)
  const inForm = new URLSearchParams([['password', secret]]).toString()
  for (const said of [
    secret,
    inForm,
    inForm.toLowerCase(),
    encodeURIComponent(secret),
    JSON.stringify({ secret }),
  ])
    assert.doesNotMatch(redact(`the server says ${said}.`), /w[&%]|w\\u0026/, said)
})

test('texts from servers evict none of the known secrets, and hide no word of a message', () => {
  keepSecret('password-of-ours')
  for (let each = 0; each < 2000; each += 1) keepServerSecret(`a value of a server's ${each}`)
  keepServerSecret('evil.example')
  assert.equal(redact('password-of-ours at evil.example'), '… at evil.example')
  assert.equal(redact("a value of a server's 1999"), '…')
})

test('characters that control a terminal or are invisible are escaped, in text and in JSON', () => {
  const hidden = [
    ...Array.from({ length: 0xa0 }, (_, code) => code).filter((code) => code < 0x20 || code > 0x7e),
    ...[0xad, 0x61c, 0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066, 0x2069, 0xfeff],
    ...[0xfff9, 0xe0001, 0xe007f],
  ].map((code) => String.fromCodePoint(code))
  for (const character of [...hidden, '\ud800']) {
    assert.match(visible(`a${character}b`), /^a\\(?:n|x[0-9a-f]{2}|u[0-9a-f]{4}|u\{[0-9a-f]+\})b$/)
    const json = visibleJson({ [`k${character}`]: [character] })
    assert.match(json, /^[ -~]*$/)
    assert.deepEqual(JSON.parse(json), { [`k${character}`]: [character] })
  }
  assert.equal(visible('größe 大 ✓ …'), 'größe 大 ✓ …')
})

test('an error counts, and not the one that came when what was open was closed for it', () => {
  const failing = (closing: unknown, thrown: unknown) => {
    using _open = {
      [Symbol.dispose]: () => {
        throw closing
      },
    }
    throw thrown
  }
  for (const thrown of [new LoamError('COMPRESSION_INVALID', 'the first'), new Error('no code')]) {
    const code = thrown instanceof LoamError ? thrown.code : 'INTERNAL'
    assert.throws(
      () => {
        failing(new Error('closing'), thrown)
      },
      (error) => error instanceof SuppressedError && toLoamError(error, 'read').code === code,
    )
  }
})

test('an error of the code itself is INTERNAL and asks for a report, and an error of the system is SYSTEM', () => {
  const defects = [
    new TypeError('x is undefined'),
    new RangeError('too deep'),
    new Error('no code'),
    'a text',
  ]
  for (const thrown of defects) {
    const { code, kind, hint } = toLoamError(thrown, 'pull')
    assert.deepEqual([code, kind], ['INTERNAL', 'internal'])
    assert.match(hint ?? '', /^This is a defect of Loam\. Report it with .* the version/)
  }
  const nodes = Object.assign(new TypeError('not a port'), { code: 'ERR_SOCKET_BAD_PORT' })
  assert.equal(toLoamError(nodes, 'pull').code, 'INTERNAL', 'a wrong call of Node is a defect, too')
  const answer = toLoamError(Object.assign(new Error('EIO: i/o error'), { code: 'EIO', path: '/x' }), 'read')
  assert.deepEqual(answer.toPlain(), {
    code: 'SYSTEM',
    message: 'read: EIO: i/o error',
    details: { errno: 'EIO', path: '/x' },
  })
})

test('an error of the system has a hint', () => {
  const make = (code: string) => toLoamError(Object.assign(new Error(code), { code }), 'write x')
  assert.deepEqual(
    ['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EIO'].map((code) => make(code).code),
    ['NO_SPACE', 'NO_SPACE', 'READ_ONLY', 'PERMISSION_DENIED', 'PERMISSION_DENIED', 'SYSTEM'],
  )
  assert.ok(make('ENOSPC').hint !== undefined)
  // As in Node.
  const quota = Object.assign(new Error('UNKNOWN: unknown error, write'), { code: 'UNKNOWN', errno: -122 })
  assert.equal(toLoamError(quota, 'write x').code, 'NO_SPACE')
  // The answer of kernels before 6.12 to an EROFS image that is a file; loop devices are used then.
  assert.ok(isErrno(Object.assign(new Error('unknown error'), { code: 'E15', errno: -15 }), 'ENOTBLK'))
  assert.ok(isErrno(Object.assign(new Error('x'), { code: 'ENOENT' }), 'ENOENT'))
})

test('a process with too many open files is told which limit to raise', () => {
  const error = toLoamError(
    Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' }),
    'open x',
  )
  assert.deepEqual([error.code, /ulimit -n/.test(`${error.hint}`)], ['SYSTEM', true])
})
