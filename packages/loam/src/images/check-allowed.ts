import type { Digest } from '../image/index.ts'
import { refuseUnknown } from '../policy/index.ts'
import type { ImageServices } from './services.ts'
import type { ImageOptions } from './requests.ts'
import { typeOf } from './source-opener.ts'

/** Ensures that an image whose use the policy forbids is not exported or pushed under an allowed name. @throws POLICY_REFUSED */
export async function checkAllowed(
  { sources, stores, hasPolicy }: Pick<ImageServices, 'sources' | 'stores' | 'hasPolicy'>,
  image: string,
  { digest, options }: { readonly digest: Digest; readonly options: ImageOptions },
): Promise<void> {
  if (!hasPolicy) return
  const { name } = sources.find(image, { ...options, mayBeGone: true })
  const judged = await sources.with(name, options, async (source) =>
    stores[typeOf(name)].describe(source, { ...options, cached: true }),
  )
  if (judged.digest !== digest) throw refuseUnknown(image)
}
