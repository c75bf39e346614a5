import { signal } from '@preact/signals'
import { api } from './api.ts'
import { createResource } from './resource.ts'

/** What is shown of the daemon. */
export const version = createResource(api.version)
export const usage = createResource(api.usage)
export const images = createResource(api.images)
export const containers = createResource(api.containers)
export const health = createResource(api.doctor)

/** The last thing that was done, for everybody who does not see it happen. */
export const announcement = signal('')

/** Says something to screen readers. */
export function announce(text: string): void {
  announcement.value = text
}

/** Loads again whatever may have changed. */
export async function refreshStore(): Promise<void> {
  await Promise.all([usage.refresh(), images.refresh(), containers.refresh()])
}
