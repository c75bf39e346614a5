import { computed, signal } from '@preact/signals'

/** A view of the page. */
export type Route =
  | { readonly view: 'storage' | 'images' | 'containers' | 'activity' | 'health' }
  | { readonly view: 'image'; readonly digest: string }

const hash = signal(location.hash)

window.addEventListener('hashchange', () => {
  hash.value = location.hash
})

/** The route of the address; an unknown one is the first. */
export const route = computed<Route>(() => {
  const [view = '', digest] = hash.value.replace(/^#\/?/, '').split('/')
  if (view === 'images' && digest !== undefined && digest !== '')
    return { view: 'image', digest: decodeURIComponent(digest) }
  if (view === 'images' || view === 'containers' || view === 'activity' || view === 'health') return { view }
  return { view: 'storage' }
})

/** Returns the address of the page of an image. */
export function imageHref(digest: string): string {
  return `#/images/${encodeURIComponent(digest)}`
}

/** Goes to a route. */
export function goTo(href: string): void {
  location.hash = href
}
