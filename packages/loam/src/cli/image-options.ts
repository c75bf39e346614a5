import { type Command, Option } from 'commander'
import type { FetchOptions, ImageOptions, LazyOptions } from '../images/index.ts'
import { NAMED_TYPES } from '../sources/index.ts'
import { parseDigest, parsePlatform } from '../image/index.ts'
import { completes } from './completion/values.ts'

/** The options of all commands that may fetch something. */
export interface FetchFlags {
  readonly insecure?: readonly string[]
  readonly authfile?: string
  readonly certsDir?: string
}

/** The options of all commands that fetch an image. */
export interface PullFlags extends FetchFlags {
  readonly platform?: string
  readonly imageType?: string
}

/** Usual ones; others are allowed, too. */
const PLATFORMS = [
  'linux/amd64',
  'linux/arm64',
  'linux/arm/v7',
  'linux/386',
  'linux/ppc64le',
  'linux/riscv64',
  'linux/s390x',
] as const

export function addPullOptions(command: Command): Command {
  return addFetchOptions(
    command
      .addOption(
        completes(
          new Option(
            '--platform <os/arch[/variant]>',
            'platform of a multi-platform image (default: that of this machine)',
          ),
          PLATFORMS,
        ),
      )
      .addOption(imageTypeOption()),
  )
}

/** The options of all commands that can leave the data of layers for later. */
export interface LazyFlags {
  readonly lazy?: boolean
  readonly eager?: boolean
  readonly indexDigest?: string
}

export function addLazyOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--lazy',
        'mount layers with a trusted lazy index before their data is here, or say why not',
      ).conflicts('eager'),
    )
    .option('--eager', 'pull all data first, whatever the setting lazy_pull says')
    .addOption(
      new Option(
        '--index-digest <digest>',
        'artifact with the lazy indexes to use (lazy_trust=pinned)',
      ).conflicts('eager'),
    )
}

export function toLazyOptions({ lazy, eager, indexDigest }: LazyFlags): LazyOptions {
  return {
    lazy: lazy ?? (eager === true ? false : undefined),
    lazyIndex: indexDigest === undefined ? undefined : parseDigest(indexDigest, '--index-digest'),
  }
}

/** Adds the options for connecting to servers. */
export function addFetchOptions(command: Command): Command {
  return command
    .addOption(
      repeated(
        '--insecure <host>',
        'registry to access without TLS or without verifying its certificate; repeatable',
      ),
    )
    .addOption(
      completes(
        unlessEmpty('--authfile <file>', "credentials file in the format of Docker's config.json"),
        'files',
      ),
    )
    .addOption(
      completes(
        unlessEmpty(
          '--certs-dir <dir>',
          'directory of certificates and mirrors: DIR/<host>/{hosts.toml,ca.crt,client.cert,client.key}',
        ),
        'directories',
      ),
    )
}

/** The options of all commands that give an image a name. */
export interface NamingFlags {
  readonly replace?: boolean
}

export function replaceOption(): Option {
  return new Option('--replace', 'move the name from an image that was pulled from its registry')
}

/** Returns the option for the type of image that a bare name refers to. */
export function imageTypeOption(): Option {
  return new Option('--image-type <type>', 'image type of a name without a prefix').choices(NAMED_TYPES)
}

/** Returns the option for the image whose config a commit starts from. */
export function baseOption(): Option {
  return completes(new Option('--base <image>', 'image whose config the new image starts from'), 'images')
}

/** Creates an option for which an empty text is none, as for an unset variable in a script. */
function unlessEmpty(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string) => (value === '' ? undefined : value))
}

/** Creates an option that collects its values if it is given several times. */
export function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, previous: string[] | undefined) => [
    ...(previous ?? []),
    value,
  ])
}

export function toFetchOptions(flags: FetchFlags): FetchOptions {
  return { insecure: flags.insecure, authFile: flags.authfile, certsDir: flags.certsDir }
}

export function toImageOptions(flags: PullFlags): ImageOptions {
  return {
    ...toFetchOptions(flags),
    platform: flags.platform === undefined ? undefined : parsePlatform(flags.platform),
    imageType: NAMED_TYPES.find((type) => type === flags.imageType),
  }
}
