import type { HostReport } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect } from 'preact/hooks'
import { Heading } from '../parts/heading.tsx'
import { Loaded } from '../parts/states.tsx'
import { health } from '../state.ts'

interface Finding {
  readonly name: string
  readonly state: 'good' | 'note' | 'bad'
  readonly text: string
}

/** What doctor finds on this machine. */
export function HealthView(): VNode {
  useEffect(() => {
    void health.refresh()
  }, [])
  return (
    <>
      <Heading title="Health">
        <button type="button" onClick={() => void health.refresh()}>
          Check again
        </button>
      </Heading>
      <Loaded from={health}>{(report) => <Report report={report} />}</Loaded>
    </>
  )
}

function Report({ report }: { readonly report: HostReport }): VNode {
  const findings = findingsOf(report)
  const bad = findings.filter(({ state }) => state === 'bad').length
  return (
    <>
      <p class={`verdict ${bad === 0 ? 'verdict-good' : ''}`} role="status">
        {bad === 0 ? 'Everything that Loam needs is here.' : 'Some of what Loam can use is missing here.'}
      </p>
      <ul class="findings">
        {findings.map(({ name, state, text }) => (
          <li key={name} class={`finding finding-${state}`}>
            <span class="finding-mark" aria-hidden="true" />
            <span class="finding-name">
              {name}
              <span class="unseen">
                {state === 'good' ? ': works.' : state === 'bad' ? ': does not work.' : ': note.'}
              </span>
            </span>
            <span class="finding-text">{text}</span>
          </li>
        ))}
      </ul>
    </>
  )
}

function findingsOf(report: HostReport): Finding[] {
  const { backends, runtime, inflate, isRoot, kernel, node, root } = report
  // Where none is the default, none works.
  const missing = backends.some(({ isDefault }) => isDefault) ? 'note' : 'bad'
  return [
    ...backends.map(({ name, probe, isDefault }): Finding => {
      const of = `Backend ${name}`
      if (!probe.isSupported) return { name: of, state: missing, text: sentence(probe.reason) }
      const note = probe.note === undefined ? '' : `; ${probe.note}`
      return { name: of, state: 'good', text: `Works${isDefault ? ', and is the default' : ''}${note}.` }
    }),
    runtime.isSupported
      ? { name: 'Runtime', state: 'good', text: `Found, for loam run: ${runtime.note ?? 'installed'}` }
      : { name: 'Runtime', state: 'note', text: sentence(runtime.reason) },
    inflate === 'isal'
      ? { name: 'Decompression', state: 'good', text: 'ISA-L inflates gzip.' }
      : {
          name: 'Decompression',
          state: 'note',
          text: 'zlib inflates gzip. With libisal2, pulls are faster.',
        },
    isRoot
      ? { name: 'Rights', state: 'good', text: 'The daemon runs as root.' }
      : { name: 'Rights', state: 'note', text: 'The daemon does not run as root: it mounts nothing.' },
    { name: 'Machine', state: 'good', text: `Linux ${kernel}, Node ${node}, store ${root}` },
  ]
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
