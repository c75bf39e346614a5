// Changes in a container become an image in a directory: node build.ts IMAGE DIRECTORY
import { openLoam } from 'loamfs'

const [image = 'debian:12', directory = './layout'] = process.argv.slice(2)
const name = 'example/built:1'
await using loam = await openLoam({ env: process.env })
const id = `build-${process.pid}`
try {
  const status = await loam.run(image, {
    id,
    keep: true,
    command: ['sh', '-c', 'echo made by a program >/motd'],
  })
  if (status !== 0) throw new Error(`the build ended with ${status}`)
  await loam.images.commit(id, name)
} finally {
  await loam.destroy(id)
}
await loam.export(name, { format: 'oci', output: directory })
console.log('written to', directory)
