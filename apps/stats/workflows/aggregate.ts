/** Adds what was received to the sums, every minute. */
import { action, every, workflow, z } from 'sluice'
import { addPortion } from '../aggregate/aggregate-lane.ts'
import { lanesWithWork } from '../aggregate/lanes.ts'
import { readSettings } from '../settings.ts'
import { warehouse } from '../warehouse.ts'

const work = z.object({ lane: z.int(), tokenDays: z.int() })

const findLanes = action('find-lanes', {
  output: z.array(work),
  retry: { attempts: 5 },
  timeout: '5m',
  async run({ connection }) {
    const sql = connection(warehouse)
    const [lanes, { tokenDays }] = await Promise.all([lanesWithWork(sql), readSettings(sql)])
    return lanes.map((lane) => ({ lane, tokenDays }))
  },
})

/** Portion by portion; each is a transaction, so that an attempt that is killed leaves whole portions and nothing else. */
const addLane = action('add-lane', {
  input: work,
  output: z.object({ lane: z.int(), added: z.int(), busy: z.boolean() }),
  retry: { attempts: 5 },
  timeout: '15m',
  async run({ input: { lane, tokenDays }, connection, now, progress, signal }) {
    let added = 0
    for (;;) {
      const portion = await addPortion(connection(warehouse), lane, { tokenDays, now: now() })
      added += portion.added
      progress(added)
      if (portion.state !== 'more') return { lane, added, busy: portion.state === 'busy' }
      signal.throwIfAborted()
    }
  },
})

/**
 * A minute is a fifth of a window: the latest point of a chart is that old at most, and a run without work is one short task.
 * Runs may overlap: who finds a lane taken leaves it alone.
 */
export const statsAggregate = workflow('stats-aggregate', {
  description: 'Adds what was received to the sums of its windows, each event once',
  plans: [every('1m')],
  workers: 4,
  timeout: '30m',
  define() {
    addLane.map(findLanes(), ({ lane, tokenDays }) => ({ lane, tokenDays }))
  },
})
