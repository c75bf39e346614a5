/*
 * The JSON of one layer in Docker's v1 image format: { "id", "parent", "created", "config", "os", "architecture", … }.
 * The topmost one describes the image. Source: moby image/spec/v1.md.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import type { DiffId } from './digest.ts'
import { check } from './documents.ts'
import { formatConfig } from './format-documents.ts'
import { parseStrictJson } from './json.ts'

/** One layer of the v1 format. */
export interface V1Json {
  /** Undefined if the JSON does not have it. */
  readonly id: string | undefined
  readonly parent: string | undefined
  /** Whether it changes no file. */
  readonly isThrowaway: boolean
  /** All of it, as written. */
  readonly value: Readonly<Record<string, unknown>>
}

/** Docker creates 64 hex digits; other writers of the format use any name. */
const ID = /^(?!\.+$)[A-Za-z0-9_.-]{1,128}$/

const JsonSchema = v.looseObject({
  id: v.nullish(v.pipe(v.string(), v.regex(ID, 'is not a layer id'))),
  parent: v.nullish(v.string()),
  throwaway: v.nullish(v.boolean()),
})

/** Returns whether a text may be a layer id of the v1 format: one name, safe as a part of a path. */
export function isV1Id(text: string): boolean {
  return ID.test(text)
}

/** Parses the JSON of one layer. @throws DOCUMENT_INVALID */
export function parseV1Json(bytes: Buffer, what: string): V1Json {
  const value = check(JsonSchema, parseStrictJson(bytes, what), what)
  const parent = value.parent ?? ''
  if (parent !== '' && !isV1Id(parent))
    throw new LoamError('DOCUMENT_INVALID', `parse ${what}: parent is not a layer id`)
  return {
    id: value.id ?? undefined,
    parent: parent === '' ? undefined : parent,
    isThrowaway: value.throwaway === true,
    value,
  }
}

/** Fields that describe a layer and not the image. */
const LAYER_FIELDS = ['id', 'parent', 'parent_id', 'layer_id', 'throwaway', 'Size']

/** Builds an image config from the topmost JSON: all its fields, and the layers. */
export function configOfV1(top: V1Json, diffIds: readonly DiffId[]): Buffer {
  const kept = Object.entries(top.value).filter(([name]) => !LAYER_FIELDS.includes(name))
  return formatConfig(Object.fromEntries(kept), diffIds)
}
