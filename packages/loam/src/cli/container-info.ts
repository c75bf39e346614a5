import { resolve } from 'node:path'
import { Option } from 'commander'
import { type MesosContainer, parseMesosContainer } from '../containers/index.ts'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import { readRegular } from '../linux/index.ts'
import { completes } from './completion/values.ts'

const MAX_BYTES = 1 << 20

/** Returns the option for a container of Mesos. */
export function containerInfoOption(): Option {
  const help = 'ContainerInfo of Mesos, instead of an image: a JSON file, or the JSON itself'
  return completes(new Option('--container-info <file>', help), 'files')
}

/** Reads the file of `--container-info`; undefined without that option. @throws USAGE, SOURCE_NOT_FOUND */
export function readContainerInfo(given: string | undefined, cwd: string): MesosContainer | undefined {
  if (given === undefined) return undefined
  if (given.trimStart().startsWith('{')) return parseMesosContainer(given)
  let text: string
  try {
    text = readRegular(resolve(cwd, given.replace(/^file:\/\//, '')), MAX_BYTES, 'USAGE').toString('utf8')
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) throw toLoamError(error, `read ${given}`)
    throw new LoamError('SOURCE_NOT_FOUND', `read ${given}: it does not exist`, { cause: error })
  }
  return parseMesosContainer(text)
}

/** @throws USAGE when there is none */
export function requireImage<Image>(image: Image | undefined): Image {
  if (image !== undefined) return image
  throw new LoamError('USAGE', "missing required argument 'image'", {
    hint: 'Give an image, or a file with --container-info.',
  })
}
