import { LoamError } from '../errors/index.ts'

/** The account files of an image; undefined for one that it lacks. */
export interface AccountFiles {
  readonly passwd: string | undefined
  readonly group: string | undefined
  /** Finds the owner of a file of the image, for a user that is given by a path, as Appc allows. */
  readonly ownerOf?: (path: string) => { readonly uid: number; readonly gid: number } | undefined
}

/** The user and groups that a process runs as. */
export interface ResolvedUser {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  /** Home directory; `/` if the image does not know the user. */
  readonly home: string
}

const MAX_ID = 0xfffffffe

/** A valid line of /etc/passwd or /etc/group. */
interface Account {
  readonly name: string
  readonly id: number
  /** Of a user. */
  readonly gid: number
  /** Of a group: the fourth field, unparsed. */
  readonly members: readonly string[]
  readonly home: string
}

/**
 * Resolves `user`, `uid`, `user:group`, `uid:gid` and mixtures by the image's own account files, as Docker does: a
 * name must be in them, a number need not. The empty text is root. Skips the lines that glibc skips. @throws USER_NOT_FOUND
 */
export function resolveUser(user: string, files: AccountFiles): ResolvedUser {
  const { name, group } = splitUser(user, files)
  const groups = parseGroups(files.group)
  const account = findAccount(parsePasswd(files.passwd), name)
  if (account === undefined && !isId(name)) throw unknown('user', name)
  const uid = account?.id ?? Number(name)
  const gid = group === '' ? (account?.gid ?? 0) : resolveGroup(group, groups)
  // A requested group is the only one; otherwise the user is in all groups that list him.
  const additionalGids =
    account === undefined || group !== ''
      ? []
      : groups.filter(({ members }) => members.includes(account.name)).map(({ id }) => id)
  const home = account?.home ?? ''
  return { uid, gid, additionalGids: [...new Set(additionalGids)], home: home === '' ? '/' : home }
}

/** A name takes precedence over a number. */
function findAccount(accounts: readonly Account[], text: string): Account | undefined {
  const byName = accounts.find(({ name }) => name === text)
  return byName ?? (isId(text) ? accounts.find(({ id }) => id === Number(text)) : undefined)
}

/** Separates user and group; the group is empty if it is missing. */
function splitUser(user: string, files: AccountFiles): { name: string; group: string } {
  const [name = '', group = '', ...rest] = user.split(':')
  if (rest.length > 0) {
    throw new LoamError('USER_NOT_FOUND', `find user ${JSON.stringify(user)}: expected USER[:GROUP]`)
  }
  return { name: idOfPath(name === '' ? '0' : name, 'uid', files), group: idOfPath(group, 'gid', files) }
}

/** `/path` means the owner of that file in the image (appc spec/aci.md). */
function idOfPath(name: string, kind: 'uid' | 'gid', { ownerOf }: AccountFiles): string {
  if (!name.startsWith('/')) return name
  const owner = ownerOf?.(name)
  if (owner === undefined) throw unknown(kind === 'uid' ? 'user' : 'group', name)
  return String(owner[kind])
}

function resolveGroup(group: string, groups: readonly Account[]): number {
  const found = findAccount(groups, group)
  if (found !== undefined) return found.id
  if (!isId(group)) throw unknown('group', group)
  return Number(group)
}

/** name:password:uid:gid:gecos:home:shell; gecos and the fields after it may be missing. */
function parsePasswd(text: string | undefined): Account[] {
  return parseLines(text).flatMap(([name = '', , uid = '', gid = '', , home = '']) =>
    isId(uid) && isId(gid) ? [{ name, id: Number(uid), gid: Number(gid), members: [], home }] : [],
  )
}

/** name:password:gid:member,member… */
function parseGroups(text: string | undefined): Account[] {
  return parseLines(text).flatMap(([name = '', , gid = '', members = '']) =>
    isId(gid)
      ? [{ name, id: Number(gid), gid: 0, members: members.split(',').map((each) => each.trim()), home: '' }]
      : [],
  )
}

/** Comments, and lines that only NIS understands (`+user`), do not name a user. */
function parseLines(text: string | undefined): string[][] {
  return (text ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^[#+:-]/.test(line))
    .map((line) => line.split(':').map((field) => field.trim()))
}

function isId(text: string): boolean {
  return /^\d{1,10}$/.test(text) && Number(text) <= MAX_ID
}

function unknown(kind: string, name: string): LoamError {
  return new LoamError(
    'USER_NOT_FOUND',
    `find ${kind} ${JSON.stringify(name)} in the image: it does not exist`,
    {
      hint: `Give a number, or a name from the image's /etc/${kind === 'user' ? 'passwd' : 'group'}.`,
    },
  )
}
