/** The plans of a workflow as YAML writes them: maps with one key that says what the plan is. */
import { parseCron } from '../../../core/schedule.ts'
import * as plans from '../../../sdk/plan.ts'
import { event, type PlanParams, tick } from '../../../sdk/plan-params.ts'
import { secret } from '../../../sdk/secret.ts'
import { expressionsIn, into, readExpressions, withReferences } from './expression.ts'
import { below } from './pointer.ts'
import type { Fields, Reader } from './reader.ts'

interface PlanForm {
  readonly options: readonly string[]
  make(first: never, options: never): plans.Plan
}

const forms: Readonly<Record<string, PlanForm>> = {
  cron: {
    options: ['timezone', 'catchUp'],
    make(pattern: string, options: Parameters<typeof plans.cron>[1]) {
      parseCron(pattern, options?.timezone ?? 'UTC')
      return plans.cron(pattern, options)
    },
  },
  every: { options: ['start', 'catchUp'], make: plans.every },
  fileArrival: { options: ['rest'], make: plans.fileArrival },
  webhook: {
    options: ['secret', 'tolerance', 'maxBytes'],
    make: (name: string, options: Fields & { secret?: string }) =>
      plans.webhook(name, { ...options, secret: secret(options.secret as string) }),
  },
  topicRecord: { options: ['match', 'batch'], make: plans.topicRecord },
  datasetWritten: { options: ['when'], make: plans.datasetWritten },
}
const kinds = Object.keys(forms)
const lists: ReadonlySet<string> = new Set(['datasetWritten'])
const texts: ReadonlySet<string> = new Set(['timezone', 'start', 'rest', 'secret', 'tolerance'])

export function readPlans(value: unknown, pointer: string, reader: Reader): readonly plans.Plan[] {
  const all = reader.list(value ?? [], pointer, 'plans') ?? []
  return all.flatMap((plan, index) => readPlan(plan, below(pointer, index), reader) ?? [])
}

function readPlan(value: unknown, at: string, reader: Reader): plans.Plan | undefined {
  const given = reader.map(value, at, 'a plan')
  if (!given) return undefined
  const kind = kinds.find((name) => Object.hasOwn(given, name))
  const form = kind === undefined ? undefined : forms[kind]
  if (kind === undefined || !form) {
    const before = reader.count
    reader.fields(given, at, 'a plan', [
      ...kinds,
      'name',
      'params',
      ...Object.values(forms).flatMap(({ options }) => options),
    ])
    if (reader.count > before) return undefined
    return reader.fault(at, `a plan has one of the keys ${kinds.join(', ')}`)
  }
  const before = reader.count
  reader.fields(given, at, `a ${kind} plan`, [kind, 'name', 'params', ...form.options])
  const first = lists.has(kind)
    ? reader.texts(given[kind], below(at, kind), kind).map(({ text }) => text)
    : reader.text(given[kind], below(at, kind), kind)
  for (const key of Object.keys(given)) if (texts.has(key)) reader.text(given[key], below(at, key), key)
  if (kind === 'webhook' && given.secret === undefined)
    reader.fault(at, 'a webhook plan names the secret that signs it')
  if (given.catchUp !== undefined) reader.oneOf(given.catchUp, below(at, 'catchUp'), 'catchUp', ['all', 'last', 'none'])
  if (given.rest !== undefined) reader.duration(given.rest, below(at, 'rest'), 'rest')
  const params = given.params === undefined ? {} : { params: readPlanParams(given.params, below(at, 'params'), reader) }
  if (reader.count > before) return undefined
  const { [kind]: _, ...options } = given
  const place =
    kind === 'cron' && given.timezone !== undefined && zoneIsWrong(given.timezone as string) ? 'timezone' : kind
  return reader.attempt(below(at, place), () => form.make(first as never, { ...options, ...params } as never))
}

function zoneIsWrong(zone: string): boolean {
  try {
    parseCron('0 0 * * *', zone)
    return false
  } catch {
    return true
  }
}

/** `${{ tick.date }}` and `${{ event.file }}`, each alone in its text. */
function readPlanParams(value: unknown, at: string, reader: Reader): PlanParams {
  const read = readExpressions(value, at, reader)
  for (const { path, pointer } of expressionsIn(read)) {
    if (path[0] !== 'tick' && path[0] !== 'event')
      reader.fault(
        pointer,
        `the parameters of a plan refer to tick or event, such as \${{ tick.date }} or \${{ event.file }}`,
      )
    else if (path[0] === 'tick' && (path.length !== 2 || !Object.hasOwn(tick, path[1] as string)))
      reader.fault(
        pointer,
        `there is no ${path.join('.')}; there are ${Object.keys(tick)
          .map((name) => `tick.${name}`)
          .join(', ')}`,
      )
  }
  return withReferences(read, ({ path: [what, ...path] }) =>
    what === 'event' ? event(path) : into(what === 'tick' ? tick : {}, path),
  ) as PlanParams
}
