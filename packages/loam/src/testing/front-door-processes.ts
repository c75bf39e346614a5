import assert from 'node:assert/strict'
import { createReadStream, openSync, closeSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { isLoamError } from '../errors/index.ts'
import type { Check } from './front-door.ts'

/** Registers the tests of processes and streams that every front door has to pass. */
export function checkProcesses(check: Check): void {
  check(
    'processes are started with streams, entered, and read; nothing of them is left',
    async ({ loam, shellImage }) => {
      if (shellImage === undefined) return
      const { processes } = loam.containers
      await using first = await loam.containers.spawn(shellImage, {
        id: 'own',
        command: ['sh', '-c', 'read x; echo "got $x"; exit 3'],
      })
      assert.equal(first.containerId, 'own')
      first.stdin.end('a\n')
      assert.deepEqual([await text(first.stdout), await first.wait()], ['got a\n', 3])
      assert.deepEqual(await loam.containers.list(), [])
      const back = { id: 'back', detach: true, keepsInput: true }
      await loam.run(shellImage, { ...back, command: ['sh', '-c', 'echo one; echo two; read x'] })
      assert.equal(await processes.exec('back', ['sh', '-c', 'exit $A'], { env: ['A=9'] }), 9)
      assert.equal(await processes.exec('back', ['sh', '-c', 'echo $$ >/pid'], { detach: true }), 0)
      await using beside = await processes.spawn('back', ['sh', '-c', 'echo out; echo err >&2; read x'])
      assert.equal(beside.kill('SIGKILL'), true)
      assert.equal(await beside.wait(), 137)
      await assert.rejects(processes.spawn('back', ['missing']), (error) =>
        isLoamError(error, 'COMMAND_NOT_FOUND'),
      )
      await assert.rejects(processes.exec('none', ['sh']), (error) =>
        isLoamError(error, 'CONTAINER_NOT_FOUND'),
      )
      const following = Array.fromAsync(processes.logs('back', { follow: true }))
      await processes.stop('back', { timeoutMs: 0 })
      assert.equal(Buffer.concat(await following).toString(), 'one\ntwo\n')
      const last = await Array.fromAsync(processes.logs('back', { tail: 1 }))
      assert.equal(Buffer.concat(last).toString(), 'two\n')
      await loam.destroy('back')
    },
  )

  check('files and images go out and come in as streams', async ({ loam, folder, shellImage }) => {
    if (shellImage === undefined) return
    const { files } = loam.containers
    const name = 'stream.example/shell:1'
    const { digest } = await loam.images.put(shellImage, name)
    await loam.provision(digest, { id: 'files', backend: 'copy' })
    await loam.provision(digest, { id: 'other', backend: 'copy' })
    const tar = join(folder, 'files.tar')
    assert.deepEqual(await files.pack('files', '/bin', tar), { leftOut: [] })
    assert.deepEqual(await files.unpack('other', createReadStream(tar), '/'), { leftOut: [] })
    await assert.rejects(files.unpack('other', tar, '/none'), (error) => isLoamError(error, 'PATH_NOT_FOUND'))
    await assert.rejects(files.pack('other', '/none', join(folder, 'none.tar')), (error) =>
      isLoamError(error, 'PATH_NOT_FOUND'),
    )
    await loam.destroy('files')
    await loam.destroy('other')
    const archive = join(folder, 'images.tar')
    const fd = openSync(archive, 'w')
    const [saved] = await loam.images.save([name], `/dev/fd/${fd}`)
    closeSync(fd)
    assert.deepEqual([saved?.name, readFileSync(archive).length > 0], [name, true])
    await loam.images.remove(name)
    const [loaded] = await loam.images.load(createReadStream(archive))
    assert.deepEqual([loaded?.names, loaded?.image.digest], [[name], saved?.digest])
  })
}
