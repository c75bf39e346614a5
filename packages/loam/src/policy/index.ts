export { evaluate, evaluateBefore, type PolicyDecision, refuseUnknown } from './evaluate.ts'
export { parsePolicy } from './parse-policy.ts'
export {
  distinctPlaces,
  filePlace,
  type FileTransport,
  formatPlace,
  parsePlace,
  type Place,
  recordedPlaces,
  registryPlace,
  UNKNOWN_PLACE,
} from './place.ts'
export { acceptsAll, findRule, type SignaturePolicy } from './rules.ts'
export { BUNDLE_TYPE, MAX_SIGNATURE_BYTES, type Signature, SIMPLE_SIGNING_TYPE } from './signature.ts'
