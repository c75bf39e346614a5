import { Gauge, type Registry } from 'prom-client'

/** What a gauge is called, and where it is registered. */
interface GaugeDefinition<Label extends string> {
  readonly name: string
  readonly help: string
  readonly labels?: readonly Label[]
  readonly registry: Registry
}

/** Creates a gauge that has no value until it is set: prom-client gives one without labels the value 0. */
export function createGauge<Label extends string = never>({
  name,
  help,
  labels = [],
  registry,
}: GaugeDefinition<Label>): Gauge<Label> {
  const gauge = new Gauge({ name: `loam_${name}`, help, labelNames: labels, registers: [registry] })
  if (labels.length === 0) gauge.remove()
  return gauge
}
