import type { VNode } from 'preact'
import { formatBytes, formatCount } from '../format.ts'
import { type EndEvent, isConnected, log, nowMs, pulls } from '../live.ts'
import { Heading } from '../parts/heading.tsx'
import { Empty } from '../parts/states.tsx'
import { progressOf, type Pull } from '../pulls.ts'

const TIME = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hour12: false })

/** What is being done, and what has been done since the page was opened. */
export function ActivityView(): VNode {
  return (
    <>
      <Heading title="Activity" />
      <section aria-labelledby="pulls">
        <div class="section-head">
          <h2 id="pulls">Pulls under way</h2>
        </div>
        {pulls.value.length === 0 ? (
          <Empty title="Nothing is being pulled">
            {isConnected.value
              ? 'A pull appears here as soon as it begins, also one of another client.'
              : 'The daemon tells no events at the moment.'}
          </Empty>
        ) : (
          <ul class="pulls">
            {pulls.value.map((pull) => (
              <PullItem key={pull.id} pull={pull} />
            ))}
          </ul>
        )}
      </section>
      <section aria-labelledby="events">
        <div class="section-head">
          <h2 id="events">Events</h2>
          <p class="note">since this page was opened</p>
        </div>
        {log.value.length === 0 ? (
          <p class="note">Nothing has ended yet.</p>
        ) : (
          <ul class="log">
            {log.value.map((event) => (
              <LogLine key={event.id} event={event} />
            ))}
          </ul>
        )}
      </section>
    </>
  )
}

function PullItem({ pull }: { readonly pull: Pull }): VNode {
  const { done, layersDone, receivedBytes, bytesPerSecond } = progressOf(pull, nowMs.value)
  const { layers, note } = pull
  const name = pull.name === '' ? 'an image' : pull.name
  return (
    <li class="pull">
      <div class="pull-head">
        <span class="pull-name">{name}</span>
        <span class="number note">
          {bytesPerSecond > 0
            ? `${formatBytes(bytesPerSecond)}/s`
            : layers.length === 0
              ? 'asking the registry'
              : ''}
        </span>
      </div>
      <progress aria-label={`Pull of ${name}`} max={1} value={layers.length === 0 ? undefined : done}>
        {Math.round(done * 100)} %
      </progress>
      <div class="pull-layers" aria-hidden="true">
        {layers.map((layer, index) => (
          <span key={index} class={`pull-layer pull-layer-${layer?.state ?? 'waiting'}`} />
        ))}
      </div>
      <p class="note">
        {layers.length > 0 &&
          `${layersDone} of ${formatCount(layers.length, 'layer')}, ${formatBytes(receivedBytes)} received`}
        {note !== undefined && ` ${note}`}
      </p>
    </li>
  )
}

function LogLine({ event }: { readonly event: EndEvent }): VNode {
  const { timeMs, operation, durationMs, error } = event
  return (
    <li>
      <time dateTime={new Date(timeMs).toISOString()}>{TIME.format(timeMs)}</time>
      <span>
        <code>{operation}</code>
      </span>
      <span class="log-text">
        {describe(event)}
        {error !== undefined && <span class="note"> {error.message}</span>}
      </span>
      <span class="number">
        {error === undefined ? (
          <span class="note">
            {durationMs < 1000 ? `${Math.round(durationMs)} ms` : `${(durationMs / 1000).toFixed(1)} s`}
          </span>
        ) : (
          <span class="badge badge-bad">{error.code}</span>
        )}
      </span>
    </li>
  )
}

/** What it was about: the first of its attributes that names something. */
function describe({ attributes }: EndEvent): string {
  const { image, id, key, name, address } = attributes
  const about = image ?? id ?? key ?? name ?? address
  return about === undefined ? '' : String(about)
}
