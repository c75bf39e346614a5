import { LoamError } from '../errors/index.ts'

/** The account files of an image; undefined where it has none. */
export interface AccountFiles {
  readonly passwd: string | undefined
  readonly group: string | undefined
  /** Finds the owner of a file of the image, for users that are named by one as Appc allows it. */
  readonly ownerOf?: (path: string) => { readonly uid: number; readonly gid: number } | undefined
}

/** Who a process runs as. */
export interface ResolvedUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  /** Home directory; `/` when the image does not know the user. */
  readonly home: string
}

const MAX_ID = 0xfffffffe

/**
 * Resolves `user`, `uid`, `user:group`, `uid:gid` and mixtures by the image's own account files, as Docker does: a
 * name must be there, a number need not. The empty text is root. @throws USER_NOT_FOUND
 */
export function resolveUser(user: string, files: AccountFiles): ResolvedUser {
  const { name, group } = splitUser(user, files)
  const users = parseLines(files.passwd)
  const groups = parseLines(files.group)
  const account =
    users.find((fields) => fields[0] === name) ??
    (isNumber(name) ? users.find((fields) => Number(fields[2]) === Number(name)) : undefined)
  if (account === undefined && !isNumber(name)) throw unknown('user', name)
  const uid = checkId(account === undefined ? name : (account[2] ?? ''), name)
  const gid = group === '' ? checkId(account?.[3] ?? '0', name) : resolveGroup(group, groups)
  // A group that was asked for by name is the only one; otherwise the user is in all that list him.
  const accountName = account?.[0]
  const additionalGids =
    accountName === undefined || group !== ''
      ? []
      : groups
          .filter((fields) => (fields[3] ?? '').split(',').includes(accountName))
          .map((fields) => checkId(fields[2] ?? '', accountName))
  const home = account?.[5] ?? ''
  return { uid, gid, additionalGids: [...new Set(additionalGids)], home: home === '' ? '/' : home }
}

/** Separates user and group; the group is empty when there is none. */
function splitUser(user: string, files: AccountFiles): { name: string; group: string } {
  const [name = '', group = ''] = user === '' ? ['0'] : user.split(':')
  return { name: idOfPath(name, 'uid', files), group: idOfPath(group, 'gid', files) }
}

/** `/path` is whoever owns that file in the image (appc spec/aci.md). */
function idOfPath(name: string, kind: 'uid' | 'gid', { ownerOf }: AccountFiles): string {
  if (!name.startsWith('/')) return name
  const owner = ownerOf?.(name)
  if (owner === undefined) throw unknown(kind === 'uid' ? 'user' : 'group', name)
  return String(owner[kind])
}

function resolveGroup(group: string, groups: readonly string[][]): number {
  const found = groups.find((fields) => fields[0] === group)
  if (found !== undefined) return checkId(found[2] ?? '', group)
  if (!isNumber(group)) throw unknown('group', group)
  return checkId(group, group)
}

function parseLines(text: string | undefined): string[][] {
  return (text ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'))
}

function isNumber(text: string): boolean {
  return /^\d{1,10}$/.test(text)
}

function checkId(text: string, name: string): number {
  const id = Number(text)
  if (isNumber(text) && id <= MAX_ID) return id
  throw new LoamError('USER_NOT_FOUND', `find user ${JSON.stringify(name)}: ${JSON.stringify(text)} is no id`)
}

function unknown(kind: string, name: string): LoamError {
  return new LoamError(
    'USER_NOT_FOUND',
    `find ${kind} ${JSON.stringify(name)} in the image: it is not there`,
    {
      hint: `Give a number, or a name that the image's /etc/${kind === 'user' ? 'passwd' : 'group'} has.`,
    },
  )
}
