/*
 * The JSON of one layer in Docker's v1 image format: { "id", "parent", "created", "config", "os", "architecture", … }.
 * The topmost one describes the image. Source: moby image/spec/v1.md.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import type { DiffId } from './digest.ts'
import { check } from './documents.ts'
import { parseStrictJson } from './json.ts'

/** One layer of the v1 format. */
export interface V1Json {
  /** 64 hex digits. */
  readonly id: string
  readonly parent: string | undefined
  /** It changes no file. */
  readonly isThrowaway: boolean
  /** All of it, as it was written. */
  readonly value: Readonly<Record<string, unknown>>
}

const ID = /^[0-9a-f]{64}$/

const JsonSchema = v.looseObject({
  id: v.pipe(v.string(), v.regex(ID, 'is no layer id')),
  parent: v.nullish(v.string()),
  throwaway: v.nullish(v.boolean()),
})

/** Tells whether a text is a layer id of the v1 format; safe as a part of a path. */
export function isV1Id(text: string): boolean {
  return ID.test(text)
}

/** Parses the JSON of one layer. @throws DOCUMENT_INVALID */
export function parseV1Json(bytes: Buffer, what: string): V1Json {
  const value = check(JsonSchema, parseStrictJson(bytes, what), what)
  const parent = value.parent ?? ''
  if (parent !== '' && !isV1Id(parent))
    throw new LoamError('DOCUMENT_INVALID', `parse ${what}: parent is no layer id`)
  return {
    id: value.id,
    parent: parent === '' ? undefined : parent,
    isThrowaway: value.throwaway === true,
    value,
  }
}

/** What says something of a layer and nothing of the image. */
const LAYER_FIELDS = ['id', 'parent', 'parent_id', 'layer_id', 'throwaway', 'Size']

/** Makes an image config of the topmost JSON: all that it says, and the layers. */
export function configOfV1(top: V1Json, diffIds: readonly DiffId[]): Buffer {
  const kept = Object.entries(top.value).filter(([name]) => !LAYER_FIELDS.includes(name))
  return Buffer.from(
    JSON.stringify({ ...Object.fromEntries(kept), rootfs: { type: 'layers', diff_ids: diffIds } }),
  )
}
