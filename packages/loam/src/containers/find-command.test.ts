import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { isLoamError, type LoamError } from '../errors/index.ts'
import { codeOfFailure } from './oci-runtime.ts'
import { findCommand } from './find-command.ts'

const FOREIGN = Buffer.concat([Buffer.from('7f454c46020101', 'hex'), Buffer.alloc(60)])

describe('a command', () => {
  let root: string
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'loam-command-'))
    const write = (path: string, data: string | Buffer, mode = 0o755) => {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), data)
      chmodSync(join(root, path), mode)
    }
    write('bin/sh', '#!/proc/self/exe\n')
    write('etc/data', 'x', 0o644)
    write('bin/ok', '#!/bin/sh\n')
    write('bin/relative', '#!bin/sh\n')
    write('bin/nested', '#! /bin/relative x\n')
    write('bin/foreign', FOREIGN)
    write('bin/cut', FOREIGN.subarray(0, 30))
    write('bin/no-bash', '#!/bin/bash\n')
    write('bin/crlf', '#!/bin/sh\r\n')
    write('bin/data-as-shell', '#!/etc/data\n')
    write('bin/text', 'echo hi\n')
    write('bin/empty', '')
    write('bin/itself', '#!/bin/itself\n')
    write('bin/mounted', '#!/mnt/sh\n')
    write('opt/ok', 'no program', 0o644)
    symlinkSync('/bin/no-bash', join(root, 'bin/link'))
    symlinkSync('/../../bin/sh', join(root, 'bin/up'))
    mkdirSync(join(root, 'bin/folder'))
  })
  after(() => {
    rmSync(root, { recursive: true })
  })

  const find = (command: string | undefined, path = '/bin', mounts: readonly string[] = []) =>
    findCommand(command, {
      rootfsPath: root,
      env: [`PATH=${path}`],
      cwd: '/',
      mounts: mounts.map((destination) => ({ destination })),
    })
  const failure = (command: string | undefined, path?: string): LoamError => {
    try {
      find(command, path)
    } catch (error) {
      if (isLoamError(error)) return error
    }
    throw new Error(`${command} was found`)
  }

  test('a command is found in PATH or by its path, through scripts and symlinks that stay in the root', () => {
    assert.equal(find('ok'), '/bin/ok')
    assert.equal(find('ok', '/nope:/opt:bin'), '/bin/ok')
    for (const name of ['relative', 'nested', 'up']) assert.equal(find(`bin/${name}`), `/bin/${name}`)
    assert.equal(find('/mnt/app', '/bin', ['/mnt']), '/mnt/app')
    assert.equal(find('mounted', '/bin', ['/mnt']), '/bin/mounted')
    assert.equal(find('crlf', '/bin', ['/bin/']), '/bin/crlf')
  })

  test('a command that cannot be executed says why, and differs from one that is missing', () => {
    for (const [name, why] of [
      ['foreign', /for another architecture/],
      ['cut', /cut off|truncated/],
      ['no-bash', /"\/bin\/bash", which the image does not have/],
      ['link', /"\/bin\/bash", which the image does not have/],
      ['crlf', /"\/bin\/sh\\r", which the image does not have/],
      ['data-as-shell', /"\/etc\/data", which cannot be executed/],
      ['mounted', /"\/mnt\/sh", which the image does not have/],
      ['text', /neither a binary nor a script/],
      ['empty', /empty/],
      ['itself', /more than 5 interpreters/],
      ['/bin/folder', /is a directory/],
      ['/etc/data', /is not executable/],
    ] as const) {
      const { code, message } = failure(name)
      assert.equal(code, 'COMMAND_NOT_EXECUTABLE', name)
      assert.match(message, why)
    }
    assert.match(failure('crlf').hint ?? '', /CR LF/)
    assert.equal(failure('ok', '/opt:/nope').code, 'COMMAND_NOT_EXECUTABLE')
    for (const name of ['none', '/bin/none', '/etc/data/x', '', undefined])
      assert.equal(failure(name).code, 'COMMAND_NOT_FOUND', String(name))
  })

  test('a command that the runtime cannot start differs from a failure of the runtime', () => {
    const run = 'runc run failed: unable to start container process: '
    for (const [message, code] of [
      [`${run}exec: "x": executable file not found in $PATH`, 'COMMAND_NOT_FOUND'],
      [`${run}exec: "/x": stat /x: no such file or directory`, 'COMMAND_NOT_FOUND'],
      [`${run}exec: "/x": permission denied`, 'COMMAND_NOT_EXECUTABLE'],
      [`${run}exec /bin/x: permission denied`, 'COMMAND_NOT_EXECUTABLE'],
      ['executable file `x` not found in $PATH: No such file or directory', 'COMMAND_NOT_FOUND'],
      ['open executable: Permission denied', 'COMMAND_NOT_EXECUTABLE'],
      [`${run}error during container init: mkdir /bin/sh: not a directory`, 'RUNTIME_FAILED'],
      [`${run}chdir to cwd ("/nope") set in config.json failed: permission denied`, 'RUNTIME_FAILED'],
      [`${run}error mounting "/nope" to rootfs at "/x": no such file or directory`, 'RUNTIME_FAILED'],
    ] as const)
      assert.equal(codeOfFailure(message), code, message)
  })
})

test('the errors of a command in a running container name the container', () => {
  const context = { rootfsPath: tmpdir(), env: ['PATH=/none'], cwd: '/', mounts: [], container: 'web' }
  assert.throws(() => findCommand('none', context), {
    message: 'exec "none" in web: the container does not contain this program',
  })
  assert.throws(() => findCommand(undefined, context), {
    hint: 'Give the command after the container: loam exec web /bin/sh',
  })
})
