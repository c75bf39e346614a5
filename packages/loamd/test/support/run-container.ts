// Runs a container by a front door, as a program of its own: the container gets its standard streams. Arguments: `daemon` or `library`, the root and
// the state directory, the image, and the options as JSON.
import { isLoamError, openLoam, type RunImageOptions } from 'loamfs'
import { connectLoam } from 'loamfs/client'

const [, , door, root, state = '', image = '', options = '{}'] = process.argv
await using loam =
  door === 'daemon'
    ? await connectLoam({ state })
    : await openLoam({ flags: { root, state }, env: process.env })
try {
  const { starter: _starter, credentials: _credentials, ...given } = JSON.parse(options) as RunImageOptions
  process.exitCode = await loam.run(image, given)
} catch (error) {
  if (!isLoamError(error)) throw error
  console.error(error.code)
  process.exitCode = 99
}
