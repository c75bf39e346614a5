import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { planRun } from './run-plan.ts'

test('a path inside a root filesystem or a snapshot is not mounted, since its container may redirect it', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-run-plan-')))
  try {
    const paths = { containers: join(folder, 'containers'), snapshots: join(folder, 'snapshots') }
    mkdirSync(join(paths.containers, 'web/rootfses/copy/x/data'), { recursive: true })
    symlinkSync(`${paths.containers}/web/rootfses/copy/x`, join(folder, 'link'))
    mkdirSync(join(folder, 'locks'))
    mkdirSync(join(folder, 'elsewhere'))
    symlinkSync(join(folder, 'locks'), join(folder, 'elsewhere/deep'))
    const plans = [
      (source: string) =>
        planRun({ mounts: [`type=bind,source=${source},target=/x`] }, { env: {}, cwd: '', paths }),
      (source: string) =>
        planRun({ hostMounts: [{ hostPath: source, target: '/x' }] }, { env: {}, cwd: '', paths }),
    ]
    const refused = [
      `${paths.containers}/web/rootfses/copy/x/data`,
      `${folder}/other/../containers/web/rootfses/copy/x`,
      join(folder, 'link/data'),
      `${paths.snapshots}/7/fs/data`,
      // The kernel goes up from where a symlink leads.
      `${folder}/elsewhere/deep/../containers/web/rootfses/copy/x`,
    ]
    for (const plan of plans) {
      for (const source of refused)
        assert.throws(
          () => plan(source),
          (error) => isLoamError(error, 'USAGE') && error.message.includes('can redirect the path'),
          source,
        )
      for (const link of ['/proc/self/root', '/proc/self/cwd/..', '/dev/fd/../root'])
        assert.throws(
          () => plan(link),
          (error) => isLoamError(error) && error.message.includes('what a process sees'),
          link,
        )
      plan(folder)
      assert.throws(() => plan(join(folder, 'missing')), /does not exist/)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
