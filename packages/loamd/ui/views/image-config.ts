/*
 * The parts of an image's config that are shown. It comes from outside, and the daemon has checked only the fields that Loam uses: each field is
 * checked before it is shown.
 */

type Fields = Readonly<Record<string, unknown>>

/** Returns the process of an image, as names and texts. */
export function runsOf(config: unknown): { name: string; value: string; isWide: boolean }[] {
  const { Entrypoint, Cmd, User, WorkingDir, ExposedPorts, Env } = fieldsOf(fieldsOf(config)['config'])
  const command = [...textsOf(Entrypoint), ...textsOf(Cmd)]
  const facts = [
    { name: 'User', value: textOf(User), isWide: false },
    { name: 'Directory', value: textOf(WorkingDir), isWide: false },
    { name: 'Ports', value: Object.keys(fieldsOf(ExposedPorts)).join(', '), isWide: false },
    { name: 'Command', value: command.map(quote).join(' '), isWide: true },
    { name: 'Environment', value: textsOf(Env).join('\n'), isWide: true },
  ]
  return facts.filter(({ value }) => value !== '')
}

/** Returns the instruction that created each layer, if the history has it: steps without a layer are skipped. */
export function historyOf(config: unknown, layers: number): string[] {
  const { history } = fieldsOf(config)
  const steps = Array.isArray(history)
    ? history.map(fieldsOf).filter((step) => step['empty_layer'] !== true)
    : []
  return Array.from({ length: layers }, (_, index) =>
    steps.length === layers ? cleanStep(textOf(steps[index]?.['created_by'])) : '',
  )
}

/** Builders add their own prefixes to a user's instruction. */
function cleanStep(text: string): string {
  return text
    .replace(/^\/bin\/sh -c (?:#\(nop\)\s*)?/, '')
    .replace(/\s*# buildkit$/, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(textOf).filter((text) => text !== '') : []
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word)
}
