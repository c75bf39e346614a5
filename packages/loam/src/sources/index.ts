export { formatImageName, type ImageName, parseImageName } from './image-name.ts'
export type { ImageSource, SourceDocument } from './image-source.ts'
export { openSource, type OpenSourceOptions } from './open-source.ts'
