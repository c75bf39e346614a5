import { readFileSync } from 'node:fs'
import { findCommandLine } from '../linux/index.ts'
import { callGrpc } from './grpc-call.ts'
import type { NodeFinding } from './report.ts'

/** What is known about the way of kubelet's pulls. */
export interface ImageService {
  /** Loam's socket of CRI's image service. */
  readonly socket: string
  /** Why containerd does not answer there; undefined if it does. */
  readonly failure: string | undefined
  /** The endpoint that the kubelet of this machine has, empty for containerd's own; undefined if no kubelet runs. */
  readonly kubeletEndpoint: string | undefined
}

/** Asks containerd through Loam's image service, and looks for kubelet. */
export async function examineImageService(socket: string): Promise<ImageService> {
  return { socket, failure: await askImages(socket), kubeletEndpoint: findKubeletEndpoint() }
}

async function askImages(socket: string): Promise<string | undefined> {
  try {
    await callGrpc(socket, '/runtime.v1.ImageService/ImageFsInfo', new Uint8Array())
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function findKubeletEndpoint(): string | undefined {
  const words = findCommandLine('kubelet')
  if (words === undefined) return undefined
  const flag = flagIn(words, 'image-service-endpoint')
  if (flag !== undefined) return flag
  const config = flagIn(words, 'config')
  return config === undefined ? '' : endpointIn(config)
}

/** Returns the value of `--name=value` or `--name value`. */
export function flagIn(words: readonly string[], name: string): string | undefined {
  for (const [index, word] of words.entries()) {
    if (word === `--${name}`) return words[index + 1]
    if (word.startsWith(`--${name}=`)) return word.slice(name.length + 3)
  }
  return undefined
}

/** One key of KubeletConfiguration, as YAML or JSON. */
function endpointIn(path: string): string {
  try {
    const text = readFileSync(path, 'utf8')
    return /^\s*["']?imageServiceEndpoint["']?\s*:\s*["']?([^"'\s,#]+)/m.exec(text)?.[1] ?? ''
  } catch {
    return ''
  }
}

/** Reports whether kubelet's pulls go through Loam, which then has their credentials. */
export function checkImageService({ socket, failure, kubeletEndpoint }: ImageService): NodeFinding[] {
  const what = 'credentials'
  const endpoint = `unix://${socket}`
  const flag = `kubelet --image-service-endpoint=${endpoint}`
  if (kubeletEndpoint !== undefined && kubeletEndpoint !== endpoint) {
    const message =
      'kubelet pulls past Loam, which has no imagePullSecrets then: containerd unpacks private images'
    return [{ status: 'missing', what, message, write: `--image-service-endpoint=${endpoint}\n` }]
  }
  if (failure !== undefined) {
    const message = `CRI of containerd does not answer at ${socket}: ${failure}`
    return [
      {
        status: 'missing',
        what,
        message,
        run: 'loamd --containerd-socket PATH, or the setting containerd_socket',
      },
    ]
  }
  const message =
    kubeletEndpoint === undefined
      ? `${flag} gives Loam the credentials of private images`
      : `kubelet pulls through ${socket}`
  return [{ status: 'right', what, message }]
}
