import * as v from 'valibot'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  createAppcName,
  IMAGE_FORM,
  type ImageRequest,
  ImageRequestSchema,
  type NamedType,
  parseStrictJson,
  type RequestSecret,
} from '../image/index.ts'
import { type CredentialSource, credentialsFromConfig, helperEnvironment } from '../registry/index.ts'
import { type ImageName, type NameDefaults, parseImageName } from './image-name.ts'

/** A parsed request: the name and the options. */
export interface ParsedRequest<Name = ImageName> {
  readonly name: Name
  /** Undefined when the request does not say. */
  readonly cached: boolean | undefined
  readonly credentials: CredentialSource | undefined
}

/** Reads a request, or a name as a user writes it. @throws REFERENCE_INVALID, SOURCE_INVALID, CREDENTIALS_INVALID, USAGE */
export function parseImageRequest(
  image: string | ImageRequest,
  defaults: NameDefaults,
  namedType: NamedType = 'docker',
): ParsedRequest {
  if (typeof image === 'string' && image.startsWith('{')) {
    return parseImageRequest(parseJson(image), defaults, namedType)
  }
  if (typeof image === 'string') {
    const name = parseImageName(qualify(image, namedType), defaults)
    return { name, cached: undefined, credentials: undefined }
  }
  const parsed = v.safeParse(ImageRequestSchema, image)
  if (!parsed.success) {
    throw new LoamError('USAGE', `read image request: ${IMAGE_FORM}`)
  }
  const request = parsed.output
  const isCached = request.cached ?? undefined
  if ('docker' in request) {
    const { name, config } = request.docker
    const credentials =
      config === undefined || config === null
        ? undefined
        : credentialsFromConfig(
            resolveSecret(config),
            `config of ${name}`,
            helperEnvironment(defaults.env ?? process.env),
          )
    return { name: parseImageName(`docker://${name}`, defaults), cached: isCached, credentials }
  }
  if ('appc' in request) {
    const { name, id, labels } = request.appc
    const given = Array.isArray(labels['labels'])
      ? Object.fromEntries(labels['labels'].map(({ key, value }) => [key, value]))
      : (labels as Record<string, string>)
    const appc = createAppcName({ name, id: id ?? undefined, labels: given }, defaults.platform)
    return { name: { transport: 'appc', appc }, cached: isCached, credentials: undefined }
  }
  const name = parseImageName(qualify(request.oci.name, 'oci'), defaults)
  return { name, cached: isCached, credentials: undefined }
}

/** Parses a request of a framework: it begins with a brace, as no image name does. */
function parseJson(text: string): ImageRequest {
  try {
    // The caller checks it like any request.
    return parseStrictJson(Buffer.from(text), 'image request') as ImageRequest
  } catch (error) {
    const { message } = toLoamError(error, 'read image request')
    throw new LoamError('USAGE', message, {
      cause: error,
      hint: 'Write {"type": "DOCKER", "docker": {"name": "debian:12"}}.',
    })
  }
}

/** Adds the transport to a bare name, since a bare Appc name looks like a reference. */
function qualify(name: string, namedType: NamedType): string {
  if (namedType === 'appc' && !/^(?:appc:\/\/|aci:)/.test(name)) return `appc://${name}`
  if (namedType === 'oci' && !/^oci(?:-archive)?:/.test(name)) return `oci:${name}`
  return name
}

function resolveSecret({ value, reference }: RequestSecret): string {
  if (value !== undefined && value !== null) return Buffer.from(value.data, 'base64').toString('utf8')
  throw new LoamError(
    'CREDENTIALS_INVALID',
    `read secret ${reference?.name ?? ''}: it is given by reference, which Loam does not resolve`,
    { hint: 'Give its value: { "type": "VALUE", "value": { "data": "<base64>" } }' },
  )
}
