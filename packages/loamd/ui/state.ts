import { effect, signal } from '@preact/signals'
import { api } from './api.ts'
import { createResource } from './resource.ts'

/** The objects of the daemon that the page shows. */
export const version = createResource(api.version)
export const usage = createResource(api.usage)
export const images = createResource(api.images)
export const containers = createResource(api.containers)
export const health = createResource(api.doctor)
/** The layers whose data is not all here. */
export const partialLayers = createResource(api.partialLayers)

const LOOK_AGAIN_MS = 3000

/** Looks again while the data of layers is missing: it comes without an event. */
export function followPartialLayers(): void {
  effect(() => {
    if (partialLayers.value.value?.length === 0) return undefined
    const timer = setTimeout(() => void lookAgain(), LOOK_AGAIN_MS)
    return () => clearTimeout(timer)
  })
}

async function lookAgain(): Promise<void> {
  const before = partialLayers.value.value?.length
  await partialLayers.refresh()
  if (partialLayers.value.value?.length !== before) await usage.refresh()
}

/** The latest action, for users of screen readers. */
export const announcement = signal('')

/** Announces a text to screen readers. */
export function announce(text: string): void {
  announcement.value = text
}

/** Loads everything again that may have changed. */
export async function refreshStore(): Promise<void> {
  await Promise.all([usage.refresh(), images.refresh(), containers.refresh(), partialLayers.refresh()])
}
