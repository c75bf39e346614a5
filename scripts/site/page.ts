/** One page of the site. */
export interface Page {
  /** Its path in the site, as `how-to/ci.md`. */
  readonly path: string
  readonly text: string
  /** The file of the repository that it comes from; undefined for a generated page. */
  readonly source?: string
}

/** An entry of the sidebar: a page, or a group of them. */
export interface Entry {
  readonly text: string
  readonly link?: string
  readonly items?: readonly Entry[]
  /** Whether its pages are hidden at first. */
  readonly collapsed?: boolean
}

/** Generated pages with their entries of the sidebar. */
export interface Reference {
  readonly pages: readonly Page[]
  readonly entries: readonly Entry[]
}
