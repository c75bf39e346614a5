import type { Reference } from '../page.ts'

/** Returns a page of the reference with its entry of the sidebar. */
export function singlePage(name: string, title: string, ...parts: readonly string[]): Reference {
  return {
    pages: [{ path: `reference/${name}.md`, text: `# ${title}\n\n${parts.join('\n\n')}\n` }],
    entries: [{ text: title, link: `/reference/${name}` }],
  }
}
