import type { BuildEntry } from './image-builder.ts'

const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex')
const TIME = { mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 123_456_789 }

/** A base layer with the entries that unpackers get wrong: modes, owners, times, names, links, devices, xattrs. */
export const ODD_BASE: readonly BuildEntry[] = [
  { name: './', mode: 0o755, ...TIME },
  { name: 'bin/', ...TIME },
  { name: 'bin/su', mode: 0o4755, data: 'setuid', ...TIME },
  {
    name: 'bin/ping',
    mode: 0o755,
    data: 'capable',
    xattrs: { 'security.capability': CAPABILITY },
    ...TIME,
  },
  { name: 'tmp/', mode: 0o1777, ...TIME },
  { name: 'secret/', mode: 0, ...TIME },
  { name: 'secret/file', mode: 0, data: 'none may read', ...TIME },
  { name: 'owner', uid: 4_000_000_000, gid: 123_456_789, data: 'far', ...TIME },
  { name: 'old', mtimeSeconds: -1, mtimeNanoseconds: 500_000_000, data: 'before 1970' },
  { name: 'new', mtimeSeconds: 4_102_444_800, mtimeNanoseconds: 1, data: 'in 2100' },
  { name: Buffer.from('name-\xff\xfe-\xe9', 'latin1'), data: 'no UTF-8', ...TIME },
  { name: 'new\nline, comma: colon\\ "quote" and  blanks', data: 'x', ...TIME },
  { name: `${'d'.repeat(200)}/`, ...TIME },
  { name: `${'d'.repeat(200)}/${'f'.repeat(255)}`, data: 'long', ...TIME },
  { name: 'link', type: 'symlink', linkName: '/etc/../bin/su', ...TIME },
  { name: 'dangling', type: 'symlink', linkName: '../../../nowhere', ...TIME },
  { name: 'long-link', type: 'symlink', linkName: 't'.repeat(1000), ...TIME },
  { name: 'hard-1', data: 'one file', ...TIME },
  { name: 'hard-2', type: 'hardlink', linkName: 'hard-1', ...TIME },
  { name: 'bin/hard-3', type: 'hardlink', linkName: '/hard-1', ...TIME },
  { name: 'null', type: 'character', deviceMajor: 1, deviceMinor: 3, mode: 0o666, ...TIME },
  {
    name: 'disk',
    type: 'block',
    deviceMajor: 259,
    deviceMinor: 70_000,
    mode: 0o660,
    gid: 6,
    ...TIME,
  },
  { name: 'pipe', type: 'fifo', mode: 0o600, ...TIME },
  {
    name: 'user-xattr',
    data: 'x',
    xattrs: { 'user.bin': Buffer.from([0, 255, 10, 61, 128]) },
    ...TIME,
  },
  { name: 'empty', data: '', ...TIME },
  { name: 'replaced/', ...TIME },
  { name: 'replaced/child', data: 'gone later', ...TIME },
  { name: 'file-then-dir', data: 'file', ...TIME },
  { name: 'opaque/', ...TIME },
  { name: 'opaque/below', data: 'hidden', ...TIME },
  { name: 'whited/', ...TIME },
  { name: 'whited/a', data: 'a', ...TIME },
  { name: 'whited/b', data: 'b', ...TIME },
  { name: 'kept/', mode: 0o750, uid: 7, gid: 8, ...TIME },
  { name: 'kept/inner/', mode: 0o700, uid: 9, ...TIME },
  { name: 'kept/inner/file', data: 'below', ...TIME },
  { name: 'wh-dir/', ...TIME },
  { name: 'wh-dir/old', data: 'old', ...TIME },
  { name: 'twice', data: 'first', ...TIME },
  { name: 'twice', data: 'second', mode: 0o600, ...TIME },
]

/** A second layer that changes the first by every rule. */
export const ODD_TOP: readonly BuildEntry[] = [
  { name: 'replaced', data: 'a file now', ...TIME },
  { name: 'file-then-dir/', mode: 0o711, ...TIME },
  { name: 'file-then-dir/child', data: 'child', ...TIME },
  { name: 'opaque/', mode: 0o701, ...TIME },
  { name: 'opaque/own', data: 'shown', ...TIME },
  { name: 'opaque/.wh..wh..opq', data: '' },
  { name: 'whited/', ...TIME },
  { name: 'whited/.wh.a', data: '' },
  { name: '.wh.wh-dir', data: '' },
  { name: 'wh-dir/', mode: 0o705, ...TIME },
  { name: 'wh-dir/fresh', data: 'fresh', ...TIME },
  { name: 'bin/', mode: 0o711, ...TIME },
  { name: 'bin/su', data: 'no longer setuid', ...TIME },
]

/** A third layer that lists none of the directories that contain its files. */
export const ODD_UNLISTED: readonly BuildEntry[] = [{ name: 'kept/inner/added', data: 'above', ...TIME }]

/** A layer that hard-links a file of a lower layer. */
export const LOWER_LINK: readonly BuildEntry[] = [
  { name: 'linked', type: 'hardlink', linkName: 'hard-1', ...TIME },
]
