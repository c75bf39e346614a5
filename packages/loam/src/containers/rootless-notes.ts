import type { Rootless } from '../linux/index.ts'

const RECORDED =
  'owners are recorded in the xattr user.rootlesscontainers, devices are empty files, and file capabilities are dropped'

/**
 * Returns what a root filesystem of a user who is not root lacks, and what would change that. Known before anything is pulled. None for root.
 */
export function rootlessNotes(
  rootless: Rootless | undefined,
  { backend, isUsedOutside }: { readonly backend: string; readonly isUsedOutside: boolean },
): { readonly text: string; readonly isAdvice?: boolean }[] {
  if (rootless === undefined) return []
  const { ids } = rootless
  return [
    ...(ids === 'subordinate'
      ? []
      : [{ text: `without root, all files belong to you: ${RECORDED}${reasonOf(rootless)}` }]),
    ...(isUsedOutside && backend !== 'copy'
      ? [
          {
            text: 'the root filesystem is mounted in the user namespace of Loam: `loam unshare COMMAND` runs a program that sees it',
            isAdvice: true,
          },
        ]
      : []),
  ]
}

function reasonOf({ ids, why }: Rootless): string {
  const reason = why === undefined ? '' : ` (${why})`
  return ids === 'single' ? `; subordinate IDs would keep the owners${reason}` : reason
}
