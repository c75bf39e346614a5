/** `repository:team/app:pull,push` (distribution's token scopes); the name may hold the colon of a port. */
interface Scope {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

/** Returns the repository that a scope begins with. */
export function repositoryOf(scope: string): string | undefined {
  return parseScopes(scope)[0]?.name
}

/**
 * Returns the scopes to ask a token server for. What the registry names in its challenge counts, for it may call a repository by another name
 * (virtual and remote repositories), but always with all that is going to be done: a registry that is asked by HEAD names `pull` alone, and
 * denies the upload that follows (containerd/containerd#1318). Scopes of something else than repositories are of no use here.
 */
export function scopesToAsk(needed: string, challenged: string | undefined): string[] {
  const [own, ...others] = parseScopes(needed)
  const named = parseScopes(challenged ?? '').filter(({ type }) => type.startsWith('repository'))
  if (own === undefined) return named.map(formatScope)
  const isNamed = named.some(({ name }) => name === own.name)
  const withActions = named.map((scope) =>
    isNamed && scope.name !== own.name ? scope : { ...scope, actions: [...scope.actions, ...own.actions] },
  )
  const asked = [...(named.length === 0 ? [own] : withActions), ...others]
  return [...new Set(asked.map(formatScope))]
}

function parseScopes(text: string): Scope[] {
  return text.split(/\s+/).flatMap((part) => {
    const match = /^([a-z0-9]+(?:\([a-z0-9]+\))?):(.+):([^:]*)$/i.exec(part)
    if (match === null) return []
    const [, type = '', name = '', actions = ''] = match
    return [{ type, name, actions: actions.split(',').filter((action) => action !== '') }]
  })
}

function formatScope({ type, name, actions }: Scope): string {
  return `${type}:${name}:${[...new Set(actions)].join(',')}`
}
