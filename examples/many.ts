// Root filesystems of one image, many at once: node many.ts IMAGE [COUNT]
import { existsSync } from 'node:fs'
import { openLoam } from 'loamfs'

const [image = 'debian:12', count = '20'] = process.argv.slice(2)
await using loam = await openLoam({ env: process.env })
const { digest } = await loam.pull(image)

// A digest never asks a registry.
const names = Array.from({ length: Number(count) }, (_, index) => `many-${process.pid}-${index}`)
const made = await Promise.all(names.map(async (id) => loam.provision(digest, { id })))
console.log(`${made.filter(({ rootfsPath }) => existsSync(`${rootfsPath}/bin`)).length} root filesystems`)
console.log(`backend: ${made[0]?.backend}`)
await Promise.all(names.map(async (id) => loam.destroy(id)))
