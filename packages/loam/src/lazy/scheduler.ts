/*
 * Decides which spans are fetched next. Pure: it knows neither time nor threads. First of these has the next free slot:
 *   demand      the span that a reader has waited for longest, with wanted spans behind it; a reader that continues where the last fetch ended
 *               gets twice as many spans as before, up to MAX_RUN
 *   profile     spans that were read first when the layer was cold before; layers take turns
 *   background  forward from the last demand, then around; layers that somebody waits for as a whole before the others
 * Demand has slots of its own, so that what is fetched ahead never delays it by more than its share of the line. Each host has slots of its own, so
 * that one that does not answer delays no layer of another.
 */

/** Most spans of one request. */
const MAX_RUN = 8

/** Adjacent spans of one layer, which one request fetches. */
export interface Run {
  readonly layer: string
  /** Where its data comes from. */
  readonly host: string
  /** The first span, and the one after the last. */
  readonly from: number
  readonly to: number
  readonly reason: 'demand' | 'profile' | 'background'
  /** Whether a reader jumped to it: what follows is not likely to be read next. */
  readonly isJump: boolean
}

/** Most runs at once from one host. */
export interface Slots {
  readonly demand: number
  /** Of profiles and the background. */
  readonly ahead: number
}

/** Whether nothing has to be done for a span: it is here, or a run has taken it. */
const OPEN = 0
const TAKEN = 1

interface LayerPlan {
  readonly layer: string
  readonly host: string
  readonly states: Uint8Array
  /** Spans that readers wait for and no run has taken, with their turns, oldest first. */
  readonly wanted: Map<number, number>
  /** Spans of the profile that no run has taken, in their order. */
  readonly expected: Set<number>
  open: number
  /** The span after the last run on demand. */
  next: number
  ahead: number
  isPaused: boolean
  priority: number
}

/** The order in which spans are fetched. The spans of a run are taken; one that did not arrive is given back by `lose`. */
export class Scheduler {
  readonly #plans = new Map<string, LayerPlan>()
  readonly #slots: Slots
  #turn = 0
  #cursor: { readonly layer: string; readonly span: number } | undefined
  readonly #running = new Map<string, Record<keyof Slots, number>>()

  constructor(slots: Slots) {
    this.#slots = slots
  }

  /** Adds a layer whose data comes from a host; `present` is 1 for the spans that are here. */
  addLayer(layer: string, host: string, present: Uint8Array): void {
    const states = present.map((state) => (state === 1 ? TAKEN : OPEN))
    const open = states.reduce((count, state) => count - state, states.length)
    const empty = { wanted: new Map<number, number>(), expected: new Set<number>() }
    const plan = { layer, host, states, open, ...empty, next: -1, ahead: 1, isPaused: false, priority: 0 }
    this.#plans.set(layer, plan)
  }

  /** Forgets a layer and all that was planned for it; its runs end as others do. */
  removeLayer(layer: string): void {
    this.#plans.delete(layer)
  }

  /** A reader waits for a span. */
  want(layer: string, span: number): void {
    const plan = this.#plans.get(layer)
    if (plan?.states[span] !== OPEN || plan.wanted.has(span)) return
    this.#turn += 1
    plan.wanted.set(span, this.#turn)
  }

  /** Spans are likely to be read, in this order. */
  expect(layer: string, spans: readonly number[]): void {
    const plan = this.#plans.get(layer)
    for (const span of spans) if (plan?.states[span] === OPEN) plan.expected.add(span)
  }

  /** Changes the priority of a layer in the background, by which the one to fill is chosen first. */
  raise(layer: string, by: 1 | -1): void {
    const plan = this.#plans.get(layer)
    if (plan !== undefined) plan.priority += by
  }

  /** Takes nothing of a layer while it is paused. */
  pause(layer: string, isPaused: boolean): void {
    const plan = this.#plans.get(layer)
    if (plan !== undefined) plan.isPaused = isPaused
  }

  /** Returns the next run, whose slot is used until `end`; undefined if there is nothing to do or no slot for it. Without `mayFetchAhead` on demand only. */
  next(mayFetchAhead: boolean): Run | undefined {
    const run = this.#nextDemand() ?? (mayFetchAhead ? this.#nextAhead() : undefined)
    if (run !== undefined) this.#runningOf(run.host)[kindOf(run)] += 1
    return run
  }

  #hasSlot(kind: keyof Slots, { host, isPaused }: LayerPlan): boolean {
    return !isPaused && this.#runningOf(host)[kind] < this.#slots[kind]
  }

  #runningOf(host: string): Record<keyof Slots, number> {
    const running = this.#running.get(host) ?? { demand: 0, ahead: 0 }
    this.#running.set(host, running)
    return running
  }

  /** Frees the slot of a run. */
  end(run: Pick<Run, 'reason' | 'host'>): void {
    this.#runningOf(run.host)[kindOf(run)] -= 1
  }

  /** Gives back a span that a run has taken and not brought. A reader that waits for it has to want it again. */
  lose(layer: string, span: number): void {
    const plan = this.#plans.get(layer)
    if (plan?.states[span] !== TAKEN) return
    plan.states[span] = OPEN
    plan.open += 1
  }

  /** Takes all open spans of a layer for a run that fetches them in the order of the stream. Returns them. */
  takeAll(layer: string): number[] {
    const plan = this.#plans.get(layer)
    if (plan === undefined) return []
    const spans = [...plan.states.keys()].filter((span) => plan.states[span] === OPEN)
    for (const span of spans) take(plan, span)
    return spans
  }

  #nextDemand(): Run | undefined {
    const plan = this.#oldestDemand()
    if (plan === undefined) return undefined
    const [from = 0] = plan.wanted.keys()
    plan.ahead = from === plan.next ? Math.min(MAX_RUN, plan.ahead * 2) : 1
    const end = from + plan.ahead
    const run = takeRun(plan, from, (span) => span < end || plan.wanted.has(span))
    plan.next = run.to
    this.#cursor = { layer: plan.layer, span: run.to }
    return { ...run, reason: 'demand', isJump: plan.ahead === 1 }
  }

  #oldestDemand(): LayerPlan | undefined {
    let oldest: LayerPlan | undefined
    let oldestTurn = Number.POSITIVE_INFINITY
    for (const plan of this.#plans.values()) {
      const [turn = Number.POSITIVE_INFINITY] = plan.wanted.values()
      if (turn >= oldestTurn || !this.#hasSlot('demand', plan)) continue
      oldest = plan
      oldestTurn = turn
    }
    return oldest
  }

  #nextAhead(): Run | undefined {
    return this.#nextOfProfile() ?? this.#nextInBackground()
  }

  #nextOfProfile(): Run | undefined {
    const plan = [...this.#plans.values()].find(
      (each) => each.expected.size > 0 && this.#hasSlot('ahead', each),
    )
    if (plan === undefined) return undefined
    const [from = 0] = plan.expected
    const run = takeRun(plan, from, (span) => plan.expected.has(span))
    // The next layer has its turn.
    this.#plans.delete(plan.layer)
    this.#plans.set(plan.layer, plan)
    return { ...run, reason: 'profile', isJump: false }
  }

  #nextInBackground(): Run | undefined {
    const plan = this.#backgroundPlan()
    if (plan === undefined) return undefined
    const start = this.#cursor?.layer === plan.layer ? this.#cursor.span : 0
    const after = plan.states.indexOf(OPEN, start)
    const run = takeRun(plan, after < 0 ? plan.states.indexOf(OPEN) : after, () => true)
    this.#cursor = { layer: plan.layer, span: run.to }
    return { ...run, reason: 'background', isJump: false }
  }

  /** The plan with the highest priority; among these that of the last run, and otherwise the first. */
  #backgroundPlan(): LayerPlan | undefined {
    const fillable = [...this.#plans.values()].filter((each) => each.open > 0 && this.#hasSlot('ahead', each))
    const highest = Math.max(...fillable.map(({ priority }) => priority))
    const first = fillable.filter(({ priority }) => priority === highest)
    return first.find(({ layer }) => layer === this.#cursor?.layer) ?? first[0]
  }
}

function kindOf({ reason }: Pick<Run, 'reason'>): keyof Slots {
  return reason === 'demand' ? 'demand' : 'ahead'
}

function takeRun(
  plan: LayerPlan,
  from: number,
  isPart: (span: number) => boolean,
): Omit<Run, 'reason' | 'isJump'> {
  let to = from
  while (to - from < MAX_RUN && plan.states[to] === OPEN && isPart(to)) {
    take(plan, to)
    to += 1
  }
  return { layer: plan.layer, host: plan.host, from, to }
}

function take(plan: LayerPlan, span: number): void {
  plan.states[span] = TAKEN
  plan.open -= 1
  plan.wanted.delete(span)
  plan.expected.delete(span)
}
