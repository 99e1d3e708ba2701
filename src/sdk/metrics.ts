import { SluiceError } from '../errors.ts'
import type { Capabilities } from './context.ts'
import { checkName } from './name.ts'

/** One value, as of now. `labels` tells it from others of its gauge: no two samples of a gauge may have the same. Undefined ones are left out. */
export interface MetricSample<Gauge extends string = string> {
  readonly gauge: Gauge
  readonly labels?: Readonly<Record<string, string | undefined>>
  /** NaN and infinite values are allowed. */
  readonly value: number
}

type Samples<Gauge extends string> = Iterable<MetricSample<Gauge>> | AsyncIterable<MetricSample<Gauge>>

export interface MetricsOptions<Gauge extends string> {
  /** By name, as Prometheus writes them, with what each means. None may begin with `sluice_`, `process_` or `nodejs_`. */
  readonly gauges: Readonly<Record<Gauge, string>>
  /**
   * All samples as of now: asked when somebody reads `/metrics`, at most once a second and per serving process. Up to 5 s and 200,000
   * samples are taken. When it throws, `sluice_metrics_up` of its name is 0 and its gauges are left out.
   */
  readonly collect: (context: Capabilities) => Samples<NoInfer<Gauge>> | Promise<Samples<NoInfer<Gauge>>>
}

/** Metrics that a project adds to `/metrics`. */
export interface Metrics {
  readonly kind: 'metrics'
  readonly name: string
  readonly options: MetricsOptions<string>
}

const gaugeForm = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const ours = /^(sluice|process|nodejs)_/

/** @throws SluiceError DEFINITION_INVALID */
export function metrics<Gauge extends string>(name: string, options: MetricsOptions<Gauge>): Metrics {
  checkName('metrics', name)
  const { gauges, collect } = options
  if (typeof collect !== 'function') throw wrong(name, 'collect must be a function')
  const names = Object.keys(gauges)
  if (names.length === 0) throw wrong(name, 'gauges must name at least one')
  const odd = names.find((gauge) => !gaugeForm.test(gauge) || gauge.length > 200)
  if (odd !== undefined) throw wrong(name, `${JSON.stringify(odd)} is no name of a gauge; use letters, digits, _ and :`)
  const taken = names.find((gauge) => ours.test(gauge))
  if (taken !== undefined) throw wrong(name, `${taken} begins as the platform's own do; give it another name`)
  return { kind: 'metrics', name, options: options as unknown as MetricsOptions<string> }
}

const wrong = (name: string, message: string) => new SluiceError('DEFINITION_INVALID', `metrics "${name}": ${message}`)
