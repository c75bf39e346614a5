export { evaluate, evaluateBefore, type PolicyDecision, refuseUnknown } from './evaluate.ts'
export { parsePolicy } from './parse-policy.ts'
export {
  distinctLocations,
  fileLocation,
  type FileTransport,
  formatLocation,
  parseLocation,
  type ImageLocation,
  recordedLocations,
  registryLocation,
  UNKNOWN_LOCATION,
} from './location.ts'
export { acceptsAll, findRule, type SignaturePolicy } from './rules.ts'
export { BUNDLE_TYPE, MAX_SIGNATURE_BYTES, type Signature, SIMPLE_SIGNING_TYPE } from './signature.ts'
