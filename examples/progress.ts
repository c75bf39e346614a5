// A pull with its progress, a time limit, and errors by their code: node progress.ts IMAGE
import { isLoamError, openLoam } from 'loamfs'

const [image = 'debian:12'] = process.argv.slice(2)
// Settings have types, and a misspelt one is an error. Times are in milliseconds.
await using loam = await openLoam({ env: process.env, settings: { connect_timeout: 5000 } })
try {
  const { digest, image: record } = await loam.pull(image, {
    signal: AbortSignal.timeout(120_000),
    onEvent: (event) => {
      if (event.kind === 'layer' && event.progress.state === 'done')
        console.error(`layer ${event.index + 1} of ${event.count} is here`)
    },
  })
  console.log(digest, 'with', record.layers.length, 'layers')
} catch (error) {
  if (!isLoamError(error)) throw error
  if (error.code === 'IMAGE_NOT_FOUND') console.log('no such image:', error.message)
  else if (error.code === 'CANCELED') console.log('it took too long')
  else console.log(error.code, error.message, error.hint ?? '')
  process.exitCode = 1
}
