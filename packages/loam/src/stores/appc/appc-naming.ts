import { formatAppcName, isAppcLatest, parseAppcName, suitsAppcName } from '../../image/index.ts'
import { hostPlatform } from '../../linux/index.ts'
import type { ImageNaming } from '../find-image.ts'

/** Appc images: a stored image matches every request for its id or for labels that it has. Only its location knows which one is the latest. */
export const appcNaming: ImageNaming = {
  type: 'appc',
  findOtherNames: (name, names) => {
    if (!name.startsWith('appc://')) return []
    const wanted = parseAppcName(name, hostPlatform())
    if (isAppcLatest(wanted)) return []
    return names().filter(({ reference }) => {
      // Recorded names have all the labels that their images have.
      if (!reference.startsWith(`appc://${wanted.name},`)) return false
      const own = parseAppcName(reference, hostPlatform())
      if (isAppcLatest(own)) return false
      if (wanted.id !== undefined) return own.id === wanted.id
      return formatAppcName(wanted) !== reference && suitsAppcName(wanted, own)
    })
  },
}
