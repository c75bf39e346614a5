// The little of Markdown that the site's pages need besides their builder: links, headings and their anchors, tables.

/** One link of a page. */
export interface Link {
  readonly target: string
  readonly line: number
}

const FENCE = /^ *(`{3,}|~{3,})/
/** A link or an image; its text may have code in it. */
const LINK = /(!?\[(?:[^[\]]|\[[^\]]*\])*\]\()([^()\s]+)\)/g

/** Returns the text with each link's target replaced; undefined: only its words stay. Code stays as it is. */
export function mapLinks(text: string, map: (target: string, line: number) => string | undefined): string {
  return mapProse(text, (line, number) =>
    maskCode(line, (prose) =>
      prose.replaceAll(LINK, (whole, before: string, target: string) => {
        const mapped = map(target, number)
        if (mapped !== undefined) return `${before}${mapped})`
        return whole.startsWith('!') ? '' : before.slice(1, -2)
      }),
    ),
  )
}

/** Returns the links and images of a page, and not those in its code. */
export function linksIn(text: string): Link[] {
  const links: Link[] = []
  mapLinks(text, (target, line) => {
    links.push({ target, line })
    return target
  })
  return links
}

/** Returns the anchors of the headings of a page. */
export function anchorsIn(text: string): Set<string> {
  const anchors = new Set<string>()
  mapProse(text, (line) => {
    const heading = /^#{1,6} +(.*)$/.exec(line)?.[1]
    if (heading === undefined) return line
    const slug = slugify(heading.replaceAll(LINK, '$1').replaceAll(/[[\]()`*!]/g, ''))
    let [unique, count] = [slug, 0]
    while (anchors.has(unique)) unique = `${slug}-${(count += 1)}`
    anchors.add(unique)
    return line
  })
  return anchors
}

/** Returns the title of a page: its first heading. */
export function titleOf(text: string): string | undefined {
  return /^# +(.*)$/m.exec(text)?.[1]?.replaceAll('`', '')
}

/** Returns the anchor of a heading, as code hosts have it. */
export function slugify(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '')
    .replaceAll(' ', '-')
}

/** Returns a table; cells are Markdown. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Returns words as code of Markdown. */
export function code(words: string): string {
  return words.includes('`') ? `\`\` ${words} \`\`` : `\`${words}\``
}

/** Returns a block of code. */
export function fenced(language: string, text: string): string {
  return `\`\`\`${language}\n${text}\n\`\`\``
}

function cell(text: string): string {
  return text.replaceAll('\n', ' ').replaceAll(/(?<!\\)\|/g, '\\|')
}

/** Maps the lines outside of fenced code. */
function mapProse(text: string, map: (line: string, number: number) => string): string {
  let fence: string | undefined
  const lines = text.split('\n').map((line, index) => {
    const mark = FENCE.exec(line)?.[1]
    if (fence === undefined && mark === undefined) return map(line, index + 1)
    if (fence === undefined) fence = mark
    else if (mark?.startsWith(fence) === true) fence = undefined
    return line
  })
  return lines.join('\n')
}

/** Maps a line with its inline code replaced by marks without brackets, and puts the code back. */
function maskCode(line: string, map: (prose: string) => string): string {
  const kept: string[] = []
  const masked = line.replaceAll(
    /(`+)(?!`).*?(?<!`)\1(?!`)/g,
    (whole) => `\u{E000}${kept.push(whole) - 1}\u{E001}`,
  )
  return map(masked).replaceAll(/\u{E000}(\d+)\u{E001}/gu, (_, index: string) => kept[Number(index)] ?? '')
}
