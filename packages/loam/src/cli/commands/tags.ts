import type { Command } from 'commander'
import type { RepositoryTags } from '../../images/index.ts'
import type { Host } from '../host.ts'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import { fitsGlob } from '../image-rows.ts'
import { addListOptions, chooseRows, type ListDefinition, type ListFlags, writeList } from '../lists.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends FetchFlags, GlobalOptions, ListFlags {}

interface TagRow {
  readonly repository: string
  readonly tag: string
}

/** The words are those of `podman search --list-tags`. */
const TAGS: ListDefinition<TagRow> = {
  fields: [
    { name: 'Name', heading: 'REPOSITORY', text: ({ repository }) => repository },
    { name: 'Tag', heading: 'TAG', text: ({ tag }) => tag },
  ],
  idOf: ({ tag }) => tag,
  filters: {
    tag:
      (value) =>
      ({ tag }) =>
        fitsGlob(value, tag),
  },
  sorts: { name: ({ tag }) => tag, version: ({ tag }) => versionKey(tag) },
}

export function addTags(program: Command, host: Host): void {
  const command = addFetchOptions(addGlobalOptions(program.command('tags <repository>')))
  addListOptions(command, TAGS)
    .description('list the tags of a repository in its registry')
    .addHelpText(
      'after',
      `
Without --format and --sort the tags come alone, in the order of the registry.
  loam tags debian
  loam tags --filter 'tag=12*' --sort version debian
  loam tags ghcr.io/owner/app --sort version | tail -1     the newest version, or a variant of it

Words of templates: ${TAGS.fields.map(({ name }) => name).join(', ')}`,
    )
    .action(async (name: string, given: Flags) => {
      await withSession(host, given, async ({ loam, output, signal }) => {
        const { repository, tags } = await loam.images.tags(name, { ...toFetchOptions(given), signal })
        const all = tags.map((tag) => ({ repository, tag }))
        const rows = await chooseRows(all, given, TAGS)
        const found: RepositoryTags = { repository, tags: rows.map(({ tag }) => tag) }
        // A list of bare tags is what scripts read.
        await writeList({ host, output, flags: { ...given, quiet: true } }, rows, found, TAGS)
      })
    })
}

const VERSION = /^v?(?=\d+(?:[-._]|$|(?:a|b|rc|alpha|beta)\d))/i
const BEFORE = /[-._]?((?:alpha|beta|rc|preview|pre|dev|snapshot|nightly)(?=[-._\d]|$)|(?<=\d)[ab](?=\d))/gi

/**
 * The key of a tag for its order: first those that are no versions, as `latest`. Numbers are compared as numbers: 1.9 comes before 1.10. A version
 * comes behind its release candidates, and before its variants.
 */
export function versionKey(tag: string): string {
  const version = tag.replace(VERSION, '')
  const isVersion = VERSION.test(tag)
  // The end of a text is greater than the beginning of a pre-release, and less than any other letter.
  const parts = `${isVersion ? version.replaceAll(BEFORE, (_, word: string) => `\0${word.toLowerCase()}`) : tag}\u0001`
  return `${Number(isVersion)}${parts.replaceAll(/0*(\d+)/g, numberKey)}`
}

/** Numbers with more digits are greater; a tag has at most 128 characters. */
function numberKey(_: string, digits: string): string {
  return `${String(digits.length).padStart(3, '0')}${digits}`
}
