import { EXPORT_FORMATS } from '../exports/index.ts'
import { SAVE_FORMATS } from '../images/index.ts'
import { checkOptions, oneOf, type OptionKind } from '../options/index.ts'

const IN_CALLS: Readonly<Record<string, Readonly<Record<string, OptionKind>>>> = {
  export: { format: oneOf(EXPORT_FORMATS) },
  save: { format: oneOf(SAVE_FORMATS) },
  prune: { type: oneOf(['docker', 'appc']) },
}

/** Checks the options of a call of the library. @throws USAGE */
export function checkCallOptions(call: string, options: unknown): void {
  checkOptions(call, options, IN_CALLS[call])
}
