export type { ContainerRecord, RootfsRecord, RootfsState } from './containers.ts'
export type { ImageLayerRecord, ImageRecord, NameRecord } from './images.ts'
export type { FormRecord, LayerRecord } from './layers.ts'
export { MetadataStore } from './metadata-store.ts'
