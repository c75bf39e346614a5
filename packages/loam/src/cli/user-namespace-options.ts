import { type Command, Option } from 'commander'
import type { UserNamespace } from '../containers/index.ts'
import { LoamError } from '../errors/index.ts'
import { completes } from './completion/values.ts'

/** The options of a user namespace, named as in podman. */
export interface UserNamespaceFlags {
  readonly userns?: string
  readonly uidmap?: string
  readonly gidmap?: string
}

const GROUP = 'User namespace:'

export function addUserNamespaceOptions(command: Command): Command {
  const options = [
    [
      '--userns <mapping>',
      'IDs of users and groups, CONTAINER:HOST:LENGTH[,…]; host for no user namespace (default: host; for volumes, that of the container)',
    ],
    ['--uidmap <mapping>', 'IDs of users, with --gidmap'],
    ['--gidmap <mapping>', 'IDs of groups, with --uidmap'],
  ] as const
  for (const [flags, help] of options)
    command.addOption(
      completes(new Option(flags, help), flags.startsWith('--userns') ? ['host'] : []).helpGroup(GROUP),
    )
  return command
}

/** Returns the user namespace that options ask for. @throws USAGE */
export function toUserNamespace({ userns, uidmap, gidmap }: UserNamespaceFlags): UserNamespace | undefined {
  if (userns !== undefined) {
    if (uidmap !== undefined || gidmap !== undefined)
      throw new LoamError(
        'USAGE',
        'user namespace: --userns maps users and groups; give --uidmap and --gidmap without it',
      )
    if (userns === 'host') return undefined
    if (/^[a-z]/.test(userns)) {
      throw new LoamError('USAGE', `user namespace: Loam has no --userns ${userns}`, {
        hint: 'Give the IDs yourself, --userns 0:2000000000:65536, or --userns host for none.',
      })
    }
    return { uids: userns, gids: userns }
  }
  if (uidmap === undefined && gidmap === undefined) return undefined
  if (uidmap !== undefined && gidmap !== undefined) return { uids: uidmap, gids: gidmap }
  throw new LoamError('USAGE', 'user namespace: --uidmap and --gidmap need each other', {
    hint: '--userns MAPPING maps users and groups alike.',
  })
}
