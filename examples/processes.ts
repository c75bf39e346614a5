// A process with streams, a further process in its container, and a signal: node processes.ts IMAGE
import { text } from 'node:stream/consumers'
import { openLoam } from 'loamfs'

const [image = 'debian:12'] = process.argv.slice(2)
await using loam = await openLoam({ env: process.env })

// It ends at the end of this program, whatever happens, and its root filesystem is removed.
await using cat = await loam.containers.spawn(image, { command: ['cat'], stderr: 'inherit' })
cat.stdin.write('one line\n')
const [first] = await cat.stdout.take(1).toArray()
console.log('cat said:', String(first).trim())

const inside = await loam.containers.processes.spawn(cat.containerId, ['sh', '-c', 'echo $$ >&2; exit 3'])
inside.stdin.end()
const [output, status] = await Promise.all([text(inside.stderr), inside.wait()])
console.log('a further process had number', Number(output) > 1 ? 'more than 1' : output, 'and status', status)

cat.kill('SIGKILL')
console.log('cat ended with', await cat.wait())
