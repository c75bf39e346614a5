// The manifest and the config of an image, with types: node image-config.ts IMAGE
import { openLoam, parseOciImageConfig, parseOciManifest } from 'loamfs'

const [image = 'debian:12'] = process.argv.slice(2)
await using loam = await openLoam({ env: process.env })
await loam.pull(image)
const inspected = await loam.images.inspect(image)
const { layers } = parseOciManifest(inspected.manifest)
const { config, history } = parseOciImageConfig(inspected.config)
console.log('layers', layers.map(({ size }) => size).length)
console.log('command', JSON.stringify([...(config?.Entrypoint ?? []), ...(config?.Cmd ?? [])]))
console.log('environment', config?.Env?.join(' ') ?? '')
console.log('steps', history?.length ?? 0)
