import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { findUnsafeState, openStateRoot } from './state-root.ts'

const isUnsafe = (error: unknown) => isLoamError(error, 'STORE_UNSAFE') && error.hint !== undefined

describe('state directories', () => {
  const inFolder = (use: (folder: string) => void) => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-state-'))
    try {
      use(folder)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const refuses = (state: string, reason: RegExp) => {
    assert.throws(() => {
      openStateRoot(state)
    }, isUnsafe)
    assert.match(findUnsafeState(state) ?? '', reason)
  }

  test('one that others may write to is refused, and so is a directory of Loam in it and a directory above it', () => {
    inFolder((folder) => {
      const state = join(folder, 'above', 'state')
      for (const path of [state, join(folder, 'above'), join(state, 'bundles'), join(state, 'lazy')]) {
        mkdirSync(path, { recursive: true })
        openStateRoot(state)
        for (const mode of [0o777, 0o775, 0o757]) {
          chmodSync(path, mode)
          refuses(state, new RegExp(`others may write to ${path} \\(mode ${mode.toString(8)}\\)`))
        }
        chmodSync(path, 0o711)
        openStateRoot(state)
      }
    })
  })

  test('one that is missing is created where others could create it first, and only there', () => {
    inFolder((folder) => {
      openStateRoot(join(folder, 'state'))
      assert.equal(findUnsafeState(join(folder, 'state')), undefined)
      assert.ok(!existsSync(join(folder, 'state')))
      const open = join(folder, 'open')
      mkdirSync(open)
      chmodSync(open, 0o1777)
      assert.equal(findUnsafeState(join(open, 'some', 'state')), undefined)
      assert.ok(!existsSync(join(open, 'some')))
      openStateRoot(join(open, 'some', 'state'))
      assert.equal(statSync(join(open, 'some', 'state')).mode & 0o022, 0)
      chmodSync(open, 0o777)
      refuses(join(open, 'some', 'state'), /others may write/)
      refuses(join(open, 'other'), /others may write/)
    })
  })

  test('one that is sticky, as a new tmpfs is, gets the directories that others could create first', () => {
    inFolder((folder) => {
      const state = join(folder, 'state')
      mkdirSync(state)
      chmodSync(state, 0o1777)
      assert.equal(findUnsafeState(state), undefined)
      openStateRoot(state)
      for (const name of ['bundles', 'images', 'lazy', 'runtime', 'starts'])
        assert.equal(statSync(join(state, name)).mode & 0o022, 0)
      chmodSync(join(state, 'bundles'), 0o1777)
      refuses(state, /others may write to .*bundles/)
    })
  })

  test('one behind a symlink is examined where it is', () => {
    inFolder((folder) => {
      mkdirSync(join(folder, 'real', 'state'), { recursive: true })
      symlinkSync('real/../real', join(folder, 'link'))
      symlinkSync('loop', join(folder, 'loop'))
      openStateRoot(join(folder, 'link', 'state'))
      openStateRoot(join(folder, 'link', 'missing'))
      chmodSync(join(folder, 'real'), 0o777)
      refuses(join(folder, 'link', 'state'), /others may write to .*real /)
      refuses(join(folder, 'link', 'missing'), /others may write to .*real /)
    })
  })
})
