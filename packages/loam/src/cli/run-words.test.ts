import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseTmpfs } from '../runtime/index.ts'
import { toContainerOptions } from './container-flags.ts'
import { parseEnvFile } from './env-file.ts'
import { absoluteBind, parseVolume } from './volume-option.ts'

const isUsage = (error: unknown) => isLoamError(error, 'USAGE')

test('a volume is a path of this machine, with the options of docker and podman that matter here', () => {
  for (const [text, hostPath, target, isReadOnly] of [
    ['/srv:/data', '/srv', '/data', false],
    ['/srv:/data:ro', '/srv', '/data', true],
    ['.:/work', '/home/me', '/work', false],
    ['../x:/work:rw,cached', '/home/x', '/work', false],
    ['./a b:/work:nosuid,ro', '/home/me/a b', '/work', true],
  ] as const)
    assert.deepEqual(parseVolume(text, '/home/me'), { hostPath, target, isReadOnly }, text)
  for (const text of ['/data', 'name:/data', '/a:b', '/a:/b:/c', '/a:/b:ro:x', ':/b', '~/x:/b', '/a:/b:O'])
    assert.throws(() => parseVolume(text, '/'), isUsage, text)
})

test('a relative path of --mount type=bind starts from the directory of the caller', () => {
  for (const [text, expected] of [
    ['type=bind,source=./a,target=/x', 'type=bind,source=/home/me/a,target=/x'],
    ['type=bind,target=/x,src=..,readonly', 'type=bind,target=/x,src=/home,readonly'],
    ['type=image,source=./a,target=/x', 'type=image,source=./a,target=/x'],
    ['type=bind,source=/a,target=/x', 'type=bind,source=/a,target=/x'],
  ] as const)
    assert.equal(absoluteBind(text, '/home/me'), expected)
})

test('a file of variables is read as docker and podman read it', () => {
  const text = '\uFEFF# comment\r\nA=1\n\n  B="x y" # no comment\nC=\nHOME\nUNSET\nD=a=b\n'
  assert.deepEqual(parseEnvFile(text, 'f', { HOME: '/root' }), [
    'A=1',
    'B="x y" # no comment',
    'C=',
    'HOME=/root',
    'D=a=b',
  ])
  for (const bad of ['=x', 'A B=x', 'export A=1']) assert.throws(() => parseEnvFile(bad, 'f', {}), isUsage)
})

test('a tmpfs adds no rights, and has the requested size and mode', () => {
  const options = (text: string) => parseTmpfs(text).options.join(',')
  assert.equal(options('/run'), 'nosuid,nodev,noexec,rw,tmpcopyup')
  assert.equal(options('/run:size=64m,mode=1777,exec'), 'nosuid,nodev,rw,tmpcopyup,size=64m,mode=1777')
  assert.equal(options('/run:ro,notmpcopyup'), 'nosuid,nodev,noexec,ro')
  for (const bad of ['run', '/run:suid', '/run:dev', '/run:size=x', '/run:lowerdir=/'])
    assert.throws(() => parseTmpfs(bad), isUsage, bad)
})

test('two different names for one container are refused', () => {
  const host = { cwd: '/', env: {} }
  assert.equal(toContainerOptions({ name: 'web' }, host).id, 'web')
  assert.throws(() => toContainerOptions({ name: 'web', id: 'app' }, host), isUsage)
})
