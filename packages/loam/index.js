// A checkout has the sources, and nothing that was built; a package has dist alone.
import { existsSync } from 'node:fs'
import { requireNode } from './require-node.js'

requireNode()
const source = new URL('./src/index.ts', import.meta.url)
const {
  Activity,
  ERRORS,
  EXPORT_FORMATS,
  Loam,
  LoamError,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  examine,
  firstCredentials,
  formatPlatform,
  formatReference,
  isDigest,
  isLoamError,
  mergeCommandInfo,
  openLoam,
  parseMesosContainer,
  parseOciImageConfig,
  parseOciManifest,
  parsePlatform,
  parseReference,
  readConfiguration,
} = await import(existsSync(source) ? source.href : './dist/index.js')

export {
  Activity,
  ERRORS,
  EXPORT_FORMATS,
  Loam,
  LoamError,
  credentialsFromConfig,
  credentialsFromFiles,
  credentialsOfUser,
  examine,
  firstCredentials,
  formatPlatform,
  formatReference,
  isDigest,
  isLoamError,
  mergeCommandInfo,
  openLoam,
  parseMesosContainer,
  parseOciImageConfig,
  parseOciManifest,
  parsePlatform,
  parseReference,
  readConfiguration,
}
