/*
 * The token that `loam ui` has put into the fragment of the address. A fragment is never sent: it is in no log, no query and no Referer. The token is
 * removed from the address at once, and kept for this tab only, so that reloading works.
 */

const KEY = 'loam-access'
const FRAGMENT = /^#access=([\w-]+)$/

/** Removes the token from the address, if it has one, and returns the token of this tab. */
export function takeToken(): string | undefined {
  const given = FRAGMENT.exec(location.hash)?.[1]
  if (given !== undefined) {
    sessionStorage.setItem(KEY, given)
    history.replaceState(undefined, '', `${location.pathname}#/`)
  }
  return sessionStorage.getItem(KEY) ?? undefined
}

/** Forgets the token: the daemon does not accept it any more. */
export function dropToken(): void {
  sessionStorage.removeItem(KEY)
}
