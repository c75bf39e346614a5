import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'
import {
  ignoreRuntime,
  mergeCommand,
  execHelper,
  mergeCommandInfo,
  parseCommandInfo,
  parseImageMount,
  parseMount,
  programOf,
  readEnv,
  resetEntrypoint,
  resolveUser,
  variablesOf,
} from './index.ts'

const NOTHING = { entrypoint: [], cmd: [] }
const CMD = { entrypoint: [], cmd: ['cmd', 'c1'] }
const EP = { entrypoint: ['ep', 'e1'], cmd: [] }
const BOTH = { entrypoint: ['ep', 'e1'], cmd: ['cmd', 'c1'] }
/** An Appc image's exec is an entrypoint of one word and a command. */
const EXEC = { entrypoint: ['x'], cmd: ['x1', 'x2'] }

describe('commands', () => {
  const table = [
    [{ shell: false }, undefined, ['cmd', 'c1'], ['ep', 'e1'], ['ep', 'e1', 'cmd', 'c1'], ['x', 'x1', 'x2']],
    [
      { shell: false, arguments: ['a'] },
      undefined,
      ['cmd', 'a'],
      ['ep', 'e1', 'a'],
      ['ep', 'e1', 'a'],
      ['x', 'a'],
    ],
    [{ shell: false, value: 'v' }, ['v'], ['v'], ['v'], ['v'], ['v']],
    [
      { shell: false, value: 'v', arguments: ['a0', 'a1'] },
      ['a0', 'a1'],
      ['a0', 'a1'],
      ['a0', 'a1'],
      ['a0', 'a1'],
      ['a0', 'a1'],
    ],
    [{ shell: true }, undefined, undefined, undefined, undefined, undefined],
    [{}, undefined, undefined, undefined, undefined, undefined],
    [
      { value: 'v' },
      ['/bin/sh', '-c', 'v'],
      ['/bin/sh', '-c', 'v'],
      ['/bin/sh', '-c', 'v'],
      ['/bin/sh', '-c', 'v'],
      ['/bin/sh', '-c', 'v'],
    ],
  ] as const
  test("a command is merged with the image's as the docker/runtime and appc/runtime isolators do", () => {
    for (const [command, ...expected] of table) {
      for (const [index, image] of [NOTHING, CMD, EP, BOTH, EXEC].entries()) {
        const merge = () => mergeCommandInfo(image, command)
        if (expected[index] === undefined)
          assert.throws(merge, (error) => isLoamError(error, 'USAGE'), JSON.stringify([command, image]))
        else assert.deepEqual(merge(), expected[index], JSON.stringify([command, image]))
      }
    }
    assert.throws(() => mergeCommandInfo(NOTHING, { shell: false }), /No executable is found/)
    assert.throws(() => mergeCommandInfo(BOTH, {}), /Shell specified but no command value provided/)
  })

  test('a command names a program by its value, which argv need not begin with', () => {
    assert.equal(
      programOf({ shell: false, value: '/bin/busybox', arguments: ['sh', '-c', 'x'] }),
      '/bin/busybox',
    )
    assert.equal(programOf({ value: 'line' }), undefined)
    assert.equal(programOf({ shell: false, arguments: ['a'] }), undefined)
    assert.equal(execHelper('amd64')?.subarray(0, 4).toString('latin1'), '\x7fELF')
    assert.equal(execHelper('mips'), undefined)
  })

  test("words of the command line replace the image's command, or its entrypoint, too", () => {
    const run: RunConfig = {
      ...BOTH,
      user: '',
      env: [],
      workingDir: '',
      stopSignal: undefined,
      volumes: [],
      exposedPorts: [],
      labels: {},
    }
    assert.deepEqual(mergeCommand(run, { args: ['a'], shell: false }), ['ep', 'e1', 'a'])
    assert.deepEqual(mergeCommand({ ...run, entrypoint: [] }, { args: ['a'], shell: false }), ['a'])
    assert.deepEqual(mergeCommand(run, { value: 'v', args: ['a'], shell: false }), ['v', 'a'])
    assert.deepEqual(mergeCommand(run, { value: 'v', args: [], shell: true }), ['/bin/sh', '-c', 'v'])
    const ignored = ignoreRuntime({ ...run, env: ['A=b'], workingDir: '/x', user: '7' })
    assert.deepEqual(
      [ignored.env, ignored.entrypoint, ignored.cmd, ignored.workingDir, ignored.user],
      [[], [], [], '', '7'],
    )
  })

  test('a command is read from JSON, and invalid JSON is refused', () => {
    assert.deepEqual(parseCommandInfo('{"shell":false,"arguments":["a"]}'), {
      shell: false,
      arguments: ['a'],
    })
    assert.deepEqual(
      variablesOf(
        parseCommandInfo('{"environment":{"variables":[{"name":"A","value":"b=c"},{"name":"B"}]}}'),
      ),
      ['A=b=c', 'B='],
    )
    for (const text of [
      '',
      '{"shell":"no"}',
      '{"arguments":"a"}',
      '{"colour":1}',
      '{"uris":[{"value":"http://x/y"}]}',
      '{"environment":{"variables":[{"name":"A","type":"SECRET"}]}}',
    ])
      assert.throws(
        () => parseCommandInfo(text),
        (error) => isLoamError(error, 'USAGE'),
      )
  })
})

describe('mounts', () => {
  test('mounts of images differ from those of a runtime', () => {
    assert.deepEqual(parseImageMount('type=image,source=debian:12,target=data'), {
      image: 'debian:12',
      target: 'data',
      isReadOnly: false,
    })
    assert.equal(parseImageMount('type=image,src=x,dst=/y,ro')?.isReadOnly, true)
    assert.equal(parseImageMount('type=image,src=x,dst=/y,rw=false')?.isReadOnly, true)
    assert.equal(parseImageMount('type=tmpfs,target=/x'), undefined)
    assert.throws(
      () => parseMount('type=image,source=x,target=/y'),
      (error) => isLoamError(error, 'USAGE'),
    )
  })

  test('a mount is read-only if any option says so, with all mounts beneath it, and contradictions are refused', () => {
    const options = (words: string) => parseMount(`type=bind,source=/s,target=/t${words}`).options
    for (const words of [',readonly', ',ro', ',ro=1', ',readonly=True', ',rw=false', ',rw=0', ',ro,rw=true'])
      assert.deepEqual(options(words), ['rbind', 'rprivate', 'nosuid', 'nodev', 'ro', 'rro'], words)
    for (const words of ['', ',ro=false', ',rw', ',rw=true', ',readonly=0'])
      assert.deepEqual(options(words), ['rbind', 'rprivate', 'nosuid', 'nodev', 'rw'], words)
    for (const words of [',ro=yes', ',readonly=on', ',rw=no', ',ro='])
      assert.throws(
        () => options(words),
        (error) => isLoamError(error, 'USAGE'),
        words,
      )
    assert.equal(parseMount('type=tmpfs,target=/t,rw=false').options.includes('ro'), true)
  })
})

describe('an entrypoint', () => {
  const run: RunConfig = { ...BOTH, env: [], workingDir: '', user: '', labels: {} } as never

  test('an entrypoint of one empty text counts as missing, in an image and on the command line', () => {
    assert.deepEqual(resetEntrypoint({ ...run, entrypoint: [''] }).entrypoint, [])
    for (const kept of [['ep', 'e1'], ['', 'x'], []])
      assert.deepEqual(resetEntrypoint({ ...run, entrypoint: kept }).entrypoint, kept)
    const merge = (args: readonly string[]) => mergeCommand(run, { value: '', args, shell: false })
    assert.deepEqual(merge([]), ['cmd', 'c1'])
    assert.deepEqual(merge(['given', 'x']), ['given', 'x'])
  })

  test('an entrypoint that is a JSON list of words is these words, and any other text is a program', () => {
    const merge = (value: string) => mergeCommand(run, { value, args: ['x'], shell: false })
    assert.deepEqual(merge('["/bin/sh","-c"]'), ['/bin/sh', '-c', 'x'])
    for (const program of ['[', '[]', '[1]', '/bin/sh']) assert.deepEqual(merge(program), [program, 'x'])
  })
})

describe('variables', () => {
  test("a variable without a value gets the caller's value, and is refused if the caller has none", () => {
    const own = { TOKEN: 'a=b', EMPTY: '', ABSENT: undefined }
    assert.deepEqual(readEnv(['TOKEN', 'EMPTY', 'A=1', 'B='], own), ['TOKEN=a=b', 'EMPTY=', 'A=1', 'B='])
    for (const entry of ['ABSENT', 'toString', '', '=x', '='])
      assert.throws(
        () => readEnv([entry], own),
        (error) => isLoamError(error, 'USAGE'),
        entry,
      )
  })
})

describe('users', () => {
  const resolve = (user: string, passwd: string, group = '') => resolveUser(user, { passwd, group })
  const PASSWD = 'root:x:0:0::/root:/bin/sh\napp:x:77:78:,,:/app:/bin/sh\n'
  const GROUP = 'root:x:0:\napp:x:78:\nok:x:5:root,app\nsix:x:6:app\n'

  test('users are found by name and number, with the groups that list them or the requested one', () => {
    const app = { uid: 77, gid: 78, additionalGids: [5, 6], home: '/app' }
    for (const user of ['app', '77', 'app:']) assert.deepEqual(resolve(user, PASSWD, GROUP), app, user)
    for (const user of ['app:ok', '77:5', 'app:5', '77:ok'])
      assert.deepEqual(resolve(user, PASSWD, GROUP), { ...app, gid: 5, additionalGids: [] }, user)
    for (const user of ['', '0', 'root', ':'])
      assert.deepEqual(resolve(user, PASSWD), { uid: 0, gid: 0, additionalGids: [], home: '/root' }, user)
    assert.deepEqual(resolve('9:8', PASSWD, GROUP), { uid: 9, gid: 8, additionalGids: [], home: '/' })
    assert.deepEqual(resolve('9', ''), { uid: 9, gid: 0, additionalGids: [], home: '/' })
    for (const user of ['nobody', 'app:none', '4294967295', '-1', '0x4d', 'app:78:5', '1e3', '7 7'])
      assert.throws(
        () => resolve(user, PASSWD, GROUP),
        (error) => isLoamError(error, 'USER_NOT_FOUND'),
        user,
      )
  })

  test('users are found although account files have broken lines', () => {
    const broken = [
      'broken:x::app',
      ':x:9:app',
      'broken',
      'broken:x',
      'broken:x:abc:app',
      'broken:x:-3:app',
      'broken:x:4294967295:app',
      'broken:x:99999999999:app',
      '+',
      '+::::::',
      '-app:x:9:app',
      '+@netgroup::9:app',
      '# app:x:9:app',
      '   ',
      ':::::::::',
      '\0\0:x:zz:app',
      'broken:x:0x10:app',
      'broken:x:1.5:app',
      '\ufffd\ufffd:x::app',
    ]
    for (const line of broken) {
      for (const end of ['\n', '\r\n']) {
        const around = (text: string) => [line, ...text.trim().split('\n'), line].join(end)
        assert.deepEqual(
          resolve('app', around(PASSWD), around(GROUP)),
          { uid: 77, gid: 78, additionalGids: [5, 6], home: '/app' },
          JSON.stringify(line),
        )
      }
    }
  })

  test('users are read from lines with more fields, fewer, or blanks', () => {
    assert.deepEqual(
      resolve('app', ' app : x : 077 : 78 : g : /home/a : /bin/sh : more:x', 'g:x:5: app , b :x\nh:x:6'),
      {
        uid: 77,
        gid: 78,
        additionalGids: [5],
        home: '/home/a',
      },
    )
    assert.deepEqual(resolve('app:h', 'app:x:1:2', 'h:x:6'), {
      uid: 1,
      gid: 6,
      additionalGids: [],
      home: '/',
    })
    assert.equal(resolve('app', '\ufeffapp:x:1:2').uid, 1)
  })

  test('a user may be the owner of a file of the image, as Appc allows', () => {
    const files = {
      passwd: undefined,
      group: undefined,
      ownerOf: (path: string) => (path === '/bin/app' ? { uid: 7, gid: 8 } : undefined),
    }
    const { uid, gid } = resolveUser('/bin/app:/bin/app', files)
    assert.deepEqual([uid, gid], [7, 8])
    assert.throws(
      () => resolveUser('/no:0', files),
      (error) => isLoamError(error, 'USER_NOT_FOUND'),
    )
  })
})
