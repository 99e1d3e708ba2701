/** What a plan will do, for people: in one line, and its next ticks with what the clocks of its zone show then. */
import type { Plan } from '../sdk/plan.ts'
import { localTime } from './local-time.ts'
import { nextTick, type Schedule, scheduleOf } from './schedule.ts'

export interface NextTick {
  /** RFC 3339 in UTC. */
  readonly time: string
  /** What the clocks show, with their offset: `2026-03-29T03:00:00+02:00`. */
  readonly local: string
}

/** The ticks after a time, `count` at most; none for plans that are not by the clock. */
export function nextTicks(plan: Plan, after: number, count: number): NextTick[] {
  if (plan.kind !== 'cron' && plan.kind !== 'interval') return []
  return ticksOf(scheduleOf(plan), after, count)
}

export function ticksOf(schedule: Schedule, after: number, count: number): NextTick[] {
  const zone = 'zone' in schedule ? schedule.zone : 'UTC'
  const ticks: NextTick[] = []
  for (let at = nextTick(schedule, after); at !== undefined && ticks.length < count; at = nextTick(schedule, at)) {
    ticks.push({ time: new Date(at).toISOString(), local: localText(zone, at) })
  }
  return ticks
}

function localText(zone: string, at: number): string {
  const { offset } = localTime(zone).stretchAt(at)
  const minutes = Math.round(Math.abs(offset) / 60_000)
  const two = (value: number) => String(value).padStart(2, '0')
  const sign = offset < 0 ? '-' : '+'
  return `${new Date(at + offset).toISOString().slice(0, 19)}${sign}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`
}

/** `each record of orders, in batches of 100 or each 10 s`. */
export function describePlan(plan: Plan): string {
  switch (plan.kind) {
    case 'cron':
      return `at ${plan.pattern} in ${plan.timezone}; catch-up ${plan.catchUp}`
    case 'interval': {
      const start = plan.start === undefined ? '' : ` from ${new Date(plan.start).toISOString()}`
      return `each ${plan.every}${start}; catch-up ${plan.catchUp}`
    }
    case 'file-arrival':
      return `for each file ${plan.glob} that arrives or changes`
    case 'webhook':
      return `for each delivery to POST /api/v1/hooks/{workflow}/${plan.hook}, signed with the secret ${plan.secret}`
    case 'topic-record': {
      const some = plan.match === undefined ? 'each record' : `each record with ${JSON.stringify(plan.match)}`
      const batch = plan.batch ? `, in batches of ${plan.batch.records} or after ${plan.batch.withinMs / 1_000} s` : ''
      return `for ${some} of ${plan.topic}${batch}`
    }
    case 'dataset-written':
      if (plan.datasets.length === 1) return `for each version of ${plan.datasets[0]}`
      return plan.when === 'any'
        ? `for each version of ${plan.datasets.join(' and of ')}`
        : `when all of ${plan.datasets.join(', ')} have a new version`
  }
}
