export { evaluate, evaluateBefore, type PolicyDecision, refuseUnknown } from './evaluate.ts'
export { parsePolicy } from './parse-policy.ts'
export {
  distinctLocations,
  fileLocation,
  formatLocation,
  parseLocation,
  type ImageLocation,
  recordedLocations,
  registryLocation,
  UNKNOWN_LOCATION,
} from './location.ts'
export { acceptsAll, findRule, type PolicyRule, type SignaturePolicy } from './rules.ts'
export { MAX_SIGNATURE_BYTES, type Signature, SIGNATURE_PREDICATE } from './signature.ts'
