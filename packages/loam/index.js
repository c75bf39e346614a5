// A checkout has the sources, and nothing that was built; a package has dist alone.
import { findLibrary, requireNode } from './require-node.js'

requireNode()
const library = findLibrary(['./src/index.ts', './dist/index.js'], import.meta.url)
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
} = await import(library)

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
