export { type CallGuard, guardCalls } from './guard.ts'
export { checkOptionNames } from './names.ts'
export {
  checkOptions,
  MAX_MODE,
  MAX_TIME_MS,
  oneOf,
  OPTION_KINDS,
  type OptionKind,
  type OptionsOf,
  text,
} from './values.ts'
