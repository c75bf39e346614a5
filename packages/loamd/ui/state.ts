import { signal } from '@preact/signals'
import { api } from './api.ts'
import { createResource } from './resource.ts'

/** The objects of the daemon that the page shows. */
export const version = createResource(api.version)
export const usage = createResource(api.usage)
export const images = createResource(api.images)
export const containers = createResource(api.containers)
export const health = createResource(api.doctor)

/** The latest action, for users of screen readers. */
export const announcement = signal('')

/** Announces a text to screen readers. */
export function announce(text: string): void {
  announcement.value = text
}

/** Loads everything again that may have changed. */
export async function refreshStore(): Promise<void> {
  await Promise.all([usage.refresh(), images.refresh(), containers.refresh()])
}
