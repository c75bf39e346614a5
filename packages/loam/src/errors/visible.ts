/*
 * Text from outside (an image, a registry, a client, a path), made safe for display. Characters that control a terminal or are invisible
 * are escaped: control characters (C0, C1, DEL), line and paragraph separators, characters that format (bidirectional ones,
 * zero-width ones, tags), and halves of a surrogate pair.
 * Sources: ECMA-48; Unicode's general categories; CVE-2021-42574 for bidirectional text.
 */

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

/** Those of these characters that JSON.stringify does not escape. JSON has them only in its texts. */
const INVISIBLE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu

/** Returns a text as one line with escapes (`\n`, `\xNN`, `\uNNNN` or `\u{N…}`) for invisible characters. Linear. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, escapeCharacter)
}

/** Returns a value as JSON without characters that control a terminal; parsed, it is the same value. */
export function visibleJson(
  value: unknown,
  replacer?: (key: string, value: unknown) => unknown,
  space?: number,
): string {
  return JSON.stringify(value, replacer, space).replace(INVISIBLE_IN_JSON, (character) =>
    Array.from({ length: character.length }, (_, unit) => escapeUnit(character.charCodeAt(unit))).join(''),
  )
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0
  if (character === '\n') return '\\n'
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
  return code > 0xffff ? `\\u{${code.toString(16)}}` : escapeUnit(code)
}

function escapeUnit(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`
}
