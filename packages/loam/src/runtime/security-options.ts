import { LoamError } from '../errors/index.ts'

/** The values of `--security-opt`, as in docker and podman. */
export interface SecurityOptions {
  /** Undefined: the default profile. */
  readonly seccomp:
    | { readonly kind: 'unconfined' }
    | { readonly kind: 'file'; readonly path: string }
    | undefined
  readonly noNewPrivileges: boolean
}

const HINT = 'Write seccomp=FILE, seccomp=unconfined or no-new-privileges=false.'

/** Parses `seccomp=FILE|unconfined` and `no-new-privileges[=true|false]`; a later one counts. @throws USAGE */
export function parseSecurityOptions(options: readonly string[]): SecurityOptions {
  const parsed = options.map(parseOption)
  return {
    seccomp: parsed.findLast(({ seccomp }) => seccomp !== undefined)?.seccomp,
    noNewPrivileges: parsed.findLast((each) => each.noNewPrivileges !== undefined)?.noNewPrivileges ?? true,
  }
}

function parseOption(option: string): Partial<SecurityOptions> {
  // docker also accepts a colon for the equals sign.
  const [, name = option, , value] = /^([^=:]*)([=:](.*))?$/s.exec(option) ?? []
  switch (name) {
    case 'seccomp':
      if (value === undefined || value === '' || value.includes('\0'))
        throw invalid(option, 'the profile is missing')
      return { seccomp: value === 'unconfined' ? { kind: 'unconfined' } : { kind: 'file', path: value } }
    case 'no-new-privileges':
      if (value !== undefined && value !== 'true' && value !== 'false')
        throw invalid(option, 'expected true or false')
      return { noNewPrivileges: value !== 'false' }
    case 'apparmor':
    case 'label':
      throw invalid(option, 'Loam does not support AppArmor profiles and SELinux labels')
    default:
      throw invalid(option, 'it is not known')
  }
}

function invalid(option: string, why: string): LoamError {
  return new LoamError('USAGE', `use security option ${JSON.stringify(option)}: ${why}`, { hint: HINT })
}
