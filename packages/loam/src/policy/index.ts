export { judge, type PolicyDecision } from './judge.ts'
export { parsePolicy } from './parse-policy.ts'
export { findRule, policyScope, type SignaturePolicy } from './rules.ts'
export { BUNDLE_TYPE, MAX_SIGNATURE_BYTES, type Signature, SIMPLE_SIGNING_TYPE } from './signature.ts'
