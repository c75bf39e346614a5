// npm run openapi: writes docs/openapi.json from the schemas that check requests of the daemon's API.
import { writeFileSync } from 'node:fs'
import { createOpenApi } from '../packages/loamd/src/http/openapi.ts'

writeFileSync(
  new URL('../docs/openapi.json', import.meta.url),
  `${JSON.stringify(createOpenApi(), undefined, 2)}\n`,
)
