import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isErrno, isLoamError } from '../errors/index.ts'
import { createDirectoryInRoot, readFileInRoot, readPartInRoot } from './in-root.ts'
import { openBeneath, openWithoutLinks } from './open-beneath.ts'
import { openRegular, readRegular } from './regular-file.ts'
import { O_PATH } from './libc.ts'
import { isRoot } from './system.ts'

function inFolder(act: (folder: string) => void): void {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-in-root-')))
  try {
    act(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('only a regular file is ever opened: no pipe, no socket, and no device without a driver', async () => {
  const server = createServer()
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-in-root-')))
  try {
    execFileSync('mknod', [join(folder, 'pipe'), 'p'])
    await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve))
    mkdirSync(join(folder, 'directory'))
    const names = ['pipe', 'socket', 'directory']
    // Opening it answers ENXIO: no driver has that number.
    if (isRoot()) {
      execFileSync('mknod', [join(folder, 'device'), 'c', '511', '77'])
      names.push('device')
    }
    for (const name of names) {
      assert.equal(readFileInRoot(folder, `/${name}`), undefined, name)
      assert.equal(readPartInRoot(folder, `/${name}`, { offset: 0, length: 4 }), undefined, name)
      for (const open of [openRegular, (path: string) => readRegular(path, 10)])
        assert.throws(
          () => open(join(folder, name)),
          (error) => isLoamError(error, 'SOURCE_INVALID'),
          name,
        )
    }
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
})

test('a file is read through symlinks that stay in the root, and the error of an unreadable one names it', () => {
  inFolder((folder) => {
    mkdirSync(join(folder, 'etc'))
    writeFileSync(join(folder, 'etc/passwd'), 'of the image')
    symlinkSync('/etc/passwd', join(folder, 'link'))
    symlinkSync('/proc/self/environ', join(folder, 'out'))
    assert.equal(readFileInRoot(folder, '/link')?.toString(), 'of the image')
    assert.equal(readFileInRoot(folder, '/../../etc/passwd')?.toString(), 'of the image')
    assert.equal(readFileInRoot(folder, '/out'), undefined)
    assert.throws(() => openRegular(join(folder, 'missing')), /ENOENT.*missing/)
  })
})

test('a directory in a root is created where its symlinks lead within the root, and nowhere else', () => {
  inFolder((folder) => {
    symlinkSync('/var/lib', join(folder, 'up'))
    mkdirSync(join(folder, 'var/lib'), { recursive: true })
    symlinkSync(`${folder}-outside`, join(folder, 'dangling'))
    assert.equal(createDirectoryInRoot(folder, '/up/a/b'), join(folder, 'var/lib/a/b'))
    assert.throws(
      () => createDirectoryInRoot(folder, '/dangling/a'),
      (error) => isLoamError(error, 'USAGE'),
    )
  })
})

test('paths without symlinks are opened at any length, and neither through a symlink nor above where they begin', () => {
  inFolder((folder) => {
    const name = 'n'.repeat(250)
    let deep = folder
    for (let depth = 0; depth < 12; depth += 1) {
      deep = join(deep, name)
      mkdirSync(deep)
    }
    const below = Array.from({ length: 12 }, () => name).join('/')
    execFileSync('sh', ['-c', `cd ${deep} && mkdir -p ${below} && ln -s ${folder} ${below}/link`])
    const dirFd = openWithoutLinks(`${deep}/${below}`, O_PATH)
    assert.throws(
      () => openWithoutLinks(`${deep}/${below}/link`, O_PATH),
      (error) => isErrno(error, 'ELOOP'),
    )
    assert.throws(
      () => openWithoutLinks(`${deep}/${below}/link/${name}`, O_PATH),
      (error) => isErrno(error, 'ELOOP', 'ENOTDIR'),
    )
    assert.throws(
      () => openBeneath(dirFd, '../x', O_PATH),
      (error) => isErrno(error, 'EXDEV', 'EAGAIN'),
    )
    closeSync(openBeneath(dirFd, '.', O_PATH))
    closeSync(dirFd)
  })
})
