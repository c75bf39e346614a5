/** `repository:team/app:pull,push` (distribution's token scopes); the name may contain the colon of a port. */
interface Scope {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

/** Returns the scope that a pull needs. */
export function pullScope({ repository }: { readonly repository: string }): string {
  return `repository:${repository}:pull`
}

/** Returns the scope that a push needs. */
export function pushScope({ repository }: { readonly repository: string }): string {
  return `repository:${repository}:pull,push`
}

/** Returns the repository of a scope. */
export function repositoryOf(scope: string): string | undefined {
  return parseScopes(scope)[0]?.name
}

/**
 * Returns the scopes to request from a token server. The repository of the challenge is used, because the registry may name it differently
 * (virtual and remote repositories), with all needed actions added: a registry names only `pull` in its answer to HEAD, and denies the
 * upload that follows (containerd/containerd#1318). Scopes that are not repositories are ignored.
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
