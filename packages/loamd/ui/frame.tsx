import type { VNode } from 'preact'
import { token } from './api.ts'
import { Dialogs } from './dialogs/dialogs.tsx'
import { isConnected, pulls } from './live.ts'
import { type Route, route } from './router.ts'
import { announcement, version } from './state.ts'
import { ActivityView } from './views/activity.tsx'
import { ContainersView } from './views/containers.tsx'
import { HealthView } from './views/health.tsx'
import { ImageView } from './views/image.tsx'
import { ImagesView } from './views/images.tsx'
import { StorageView } from './views/storage.tsx'

const TABS: readonly (readonly [Route['view'], string, string])[] = [
  ['storage', 'Storage', '#/'],
  ['images', 'Images', '#/images'],
  ['containers', 'Containers', '#/containers'],
  ['activity', 'Activity', '#/activity'],
  ['health', 'Health', '#/health'],
]

/** The whole page. */
export function Frame(): VNode {
  if (token.value === undefined) return <Closed />
  return (
    <>
      {/* No link: the fragment of the address says which view it is. */}
      <button type="button" class="skip" onClick={() => document.querySelector<HTMLElement>('h1')?.focus()}>
        Skip to the content
      </button>
      <header class="top">
        <div class="top-in">
          <a class="brand" href="#/">
            <img src="icon.svg" alt="" />
            Loam
          </a>
          <nav class="tabs" aria-label="Views">
            {TABS.map(([view, name, href]) => (
              <a key={view} href={href} aria-current={isAt(view) ? 'page' : undefined}>
                {name}
                {view === 'activity' && pulls.value.length > 0 && (
                  <span class="count">
                    {pulls.value.length}
                    <span class="unseen"> under way</span>
                  </span>
                )}
              </a>
            ))}
          </nav>
          <p class="place note">
            <span class={`live ${isConnected.value ? 'live-on' : ''}`} aria-hidden="true" />
            <span class="unseen">{isConnected.value ? 'Connected to ' : 'Not connected to '}</span>
            {version.value.value?.root ?? 'loamd'}
          </p>
        </div>
      </header>
      <main id="main">
        <View key={JSON.stringify(route.value)} at={route.value} />
      </main>
      <Dialogs />
      <div class="unseen" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </>
  )
}

function isAt(view: Route['view']): boolean {
  return route.value.view === view || (view === 'images' && route.value.view === 'image')
}

function View({ at }: { readonly at: Route }): VNode {
  switch (at.view) {
    case 'storage':
      return <StorageView />
    case 'images':
      return <ImagesView />
    case 'image':
      return <ImageView digest={at.digest} />
    case 'containers':
      return <ContainersView />
    case 'activity':
      return <ActivityView />
    case 'health':
      return <HealthView />
  }
}

function Closed(): VNode {
  return (
    <main class="closed">
      <img src="icon.svg" alt="" />
      <h1 tabIndex={-1}>This page is closed</h1>
      <p>
        Its address was not complete, or has ended with the daemon or by <code>loam ui --stop</code>.
      </p>
      <p>
        Run <code>loam ui</code>, and open the address that it prints.
      </p>
    </main>
  )
}
