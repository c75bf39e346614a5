import { LoamError } from '../errors/index.ts'

/** The platform of an image, in OCI's terms (GOOS, GOARCH and the variant of the instruction set). */
export interface Platform {
  /** Operating system: `linux`. */
  readonly os: string
  /** Instruction set: `amd64`, `arm64` … */
  readonly architecture: string
  /** Variant of the instruction set: `v7` of `arm`. */
  readonly variant?: string | undefined
}

const ARCHITECTURE_ALIASES: ReadonlyMap<string, { architecture: string; variant?: string }> = new Map(
  Object.entries({
    x86_64: { architecture: 'amd64' },
    'x86-64': { architecture: 'amd64' },
    x64: { architecture: 'amd64' },
    i386: { architecture: '386' },
    i686: { architecture: '386' },
    ia32: { architecture: '386' },
    aarch64: { architecture: 'arm64' },
    armhf: { architecture: 'arm', variant: 'v7' },
    armel: { architecture: 'arm', variant: 'v6' },
  }),
)

/** The variants of an architecture from the oldest to the newest; each runs code for those before it. */
const VARIANTS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    amd64: ['v1', 'v2', 'v3', 'v4'],
    arm: ['v5', 'v6', 'v7', 'v8'],
    arm64: ['v8', 'v9'],
  }),
)

/** The variant that a missing one means. */
const DEFAULT_VARIANT: ReadonlyMap<string, string> = new Map(
  Object.entries({ amd64: 'v1', arm: 'v7', arm64: 'v8' }),
)

const PART = /^[A-Za-z0-9_.-]+$/

/** Parses `os/arch[/variant]`; accepts common other names (x86_64, aarch64, armhf). @throws PLATFORM_INVALID */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/')
  const [os = '', architecture = '', variant] = parts
  if (parts.length < 2 || parts.length > 3 || !parts.every((part) => PART.test(part))) {
    throw new LoamError(
      'PLATFORM_INVALID',
      `parse platform ${JSON.stringify(text)}: not of the form os/arch[/variant]`,
      {
        hint: 'For example linux/amd64, linux/arm64 or linux/arm/v7.',
      },
    )
  }
  return normalizePlatform({ os, architecture, variant })
}

/** Returns the platform under its common name in lower case, without a variant that is the default one. */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase()
  const name = platform.architecture.toLowerCase()
  const { architecture, variant: aliasVariant } = ARCHITECTURE_ALIASES.get(name) ?? { architecture: name }
  const variant = spellVariant(platform.variant ?? aliasVariant)
  return variant === undefined || variant === DEFAULT_VARIANT.get(architecture)
    ? { os, architecture }
    : { os, architecture, variant }
}

function spellVariant(variant: string | undefined): string | undefined {
  if (variant === undefined || variant === '') return undefined
  return /^\d+$/.test(variant) ? `v${variant}` : variant.toLowerCase()
}

/** Returns `os/arch[/variant]`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return `${os}/${architecture}${variant === undefined ? '' : `/${variant}`}`
}

/**
 * Returns how well an image for `offered` fits a machine that wants `wanted`: 0 is exact, larger is worse,
 * undefined does not run there. Of two that run, the newer variant is the better one.
 */
export function platformDistance(wanted: Platform, offered: Platform): number | undefined {
  const want = normalizePlatform(wanted)
  const offer = normalizePlatform(offered)
  if (want.os !== offer.os || want.architecture !== offer.architecture) return undefined
  const variants = VARIANTS.get(want.architecture)
  if (variants === undefined) return want.variant === offer.variant ? 0 : undefined
  const fallback = DEFAULT_VARIANT.get(want.architecture) ?? ''
  const wantRank = variants.indexOf(want.variant ?? fallback)
  const offerRank = variants.indexOf(offer.variant ?? fallback)
  if (wantRank < 0 || offerRank < 0) return want.variant === offer.variant ? 0 : undefined
  return offerRank > wantRank ? undefined : wantRank - offerRank
}

/** Other architectures whose programs a machine also runs. */
const COMPATIBLE: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({ amd64: ['386'], arm64: ['arm'] }),
)

/** Returns whether a machine may run images for a platform, whatever its variant; an empty platform matches every machine. */
export function runsOn(platform: Platform, machine: Platform): boolean {
  const { os, architecture } = normalizePlatform(platform)
  if (os === '' || architecture === '') return true
  if (os !== machine.os) return false
  return (
    architecture === machine.architecture ||
    (COMPATIBLE.get(machine.architecture) ?? []).includes(architecture)
  )
}
