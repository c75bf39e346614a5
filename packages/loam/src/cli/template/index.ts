export { createTemplate, type Template } from './evaluate.ts'
export { withKnownFields } from './values.ts'
