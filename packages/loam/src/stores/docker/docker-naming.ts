import { isDigest } from '../../image/index.ts'
import type { ImageNaming } from '../find-image.ts'

/** Docker and OCI images: an image pulled by tag is also found by its digest. */
export const dockerNaming: ImageNaming = {
  type: 'docker',
  findOtherNames: (name, names) => {
    const at = name.indexOf('@')
    const digest = name.slice(at + 1)
    if (at < 0 || !isDigest(digest)) return []
    const repository = name.slice(0, at).replace(/:[\w.-]+$/, '')
    return names()
      .filter(
        ({ reference }) => reference.startsWith(`${repository}:`) || reference.startsWith(`${repository}@`),
      )
      .filter(({ targetDigest, imageDigest }) => targetDigest === digest || imageDigest === digest)
      .map((found) => ({ ...found, targetDigest: digest }))
  },
}
