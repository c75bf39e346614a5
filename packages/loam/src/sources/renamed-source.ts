import { askedBy, formatImageName, type ImageName } from './image-name.ts'
import type { ImageSource } from './image-source.ts'

/**
 * Creates a source of the image of a file under a name that a user gives it. The file keeps its own name, so that the image can be
 * fetched again; a copy that ends with the request (`isCopy`) has no such name.
 */
export function renamedSource(
  source: ImageSource,
  name: ImageName,
  { mayReplace, isCopy }: { readonly mayReplace: boolean | undefined; readonly isCopy: boolean },
): ImageSource {
  return {
    ...source,
    name: formatImageName(name),
    asked: askedBy(name),
    from: () => [...source.asked.locations, ...(source.from?.() ?? [])],
    givenBy: 'user',
    mayReplace,
    fileName: isCopy ? undefined : source.name,
    // Some aliases are known only after the file was read.
    get aliases() {
      return source.aliases
    },
  }
}
